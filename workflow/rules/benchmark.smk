# Under speed/: benchmarks/ holds what Snakemake itself notes of each job.
rule benchmark_dataset:
    output:
        report="<run>/speed/{dataset}.json",
        table="<run>/speed/{dataset}.md",
    log:
        "<logs>/benchmark/{dataset}.log",
    conda:
        ENVIRONMENT
    # As many as most machines have, so that nothing runs beside it.
    threads: 16
    resources:
        gpu=GPU,
        device=config["device"],
        batch=config["batch"],
        mem_mb=16000,
        runtime="30m",
    params:
        model=model_flags,
        training=flags("training"),
        sizes=benchmark_sizes,
        looking=benchmark_extractor,
        seconds=config["benchmark"]["seconds"],
        code=digest("benchmark"),
    shell:
        "python -m flowquant benchmark --output {output.report} --table {output.table} "
        "--dataset {wildcards.dataset} --device {resources.device} --seconds {params.seconds} "
        "--sizes.batch {resources.batch} {params.sizes} {params.looking} {params.model} "
        "{params.training} 2> {log}"
