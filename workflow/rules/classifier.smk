rule classifier:
    input:
        "results/data/{dataset}.safetensors",
    output:
        classifier="<run>/classifiers/{dataset}.safetensors",
        report="<run>/classifiers/{dataset}.json",
    log:
        "<logs>/classifier/{dataset}.log",
    benchmark:
        "<benchmarks>/classifier/{dataset}.tsv"
    wildcard_constraints:
        dataset=names(CLASSIFIED),
    priority: 30
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="4h",
    params:
        what=flags("image", "condition"),
        training=flags("classifier"),
        code=digest("classifier"),
    shell:
        "python -m flowquant classifier --data {input} --output {output.classifier} "
        "--report {output.report} --dataset {wildcards.dataset} --device {resources.device} "
        "{params.what} {params.training} 2> {log}"
