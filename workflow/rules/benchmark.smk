# Under speed/: benchmarks/ holds what Snakemake itself notes of each job.
rule benchmark_dataset:
    output:
        report="<run>/speed/{dataset}.json",
        table="<run>/speed/{dataset}.md",
    log:
        "<logs>/benchmark/{dataset}.log",
    conda:
        ENVIRONMENT
    # All of this machine, so that nothing runs beside it; on a cluster as many as most nodes have.
    threads: workflow.resource_settings.cores or 16
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        batch=CONFIG.batch,
        mem_mb=RUN.memory(16000),
        runtime="30m",
    params:
        model=RUN.model_options,
        training=RUN.training_options,
        sampling=RUN.benchmark_options,
        code=RUN.code("benchmark"),
    message:
        "{wildcards.dataset}: measuring speed"
    shell:
        stage(
            "benchmark",
            "--output={output.report} --table={output.table} --dataset={wildcards.dataset} "
            "--device={resources.device} --batch={resources.batch} {params.sampling} "
            "{params.model} {params.training}",
        )


rule benchmark:
    input:
        expand(rules.benchmark_dataset.output, dataset=RUN.datasets),
    message:
        f"{RUN.name}: benchmark done"
