rule downstream:
    input:
        samples="<run>/sampling/{dataset}/{variant}/seed{seed}.safetensors",
        classifier="<run>/classifiers/{dataset}.safetensors",
    output:
        "<run>/downstream/{dataset}/{variant}/seed{seed}.json",
    log:
        "<logs>/downstream/{dataset}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/downstream/{dataset}/{variant}/seed{seed}.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=4000,
        runtime="30m",
    params:
        code=digest("downstream"),
    shell:
        "python -m flowquant downstream --samples {input.samples} "
        "--classifier {input.classifier} --output {output} --device {resources.device} 2> {log}"
