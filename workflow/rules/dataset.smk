rule dataset:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/data/logs/{dataset}.log",
    benchmark:
        "results/data/benchmarks/{dataset}.tsv"
    conda:
        ENVIRONMENT
    threads: RUN.decoders
    resources:
        mem_mb=RUN.memory(4000),
        runtime="4h",
        # Where the files lie and not what they are: a resource, so that moving them makes
        # nothing stale.
        data_root=CONFIG.data_root,
    params:
        kind=RUN.kind,
        source=RUN.source_options,
        code=lambda wildcards: digest(f"dataset {RUN.kind(wildcards)}"),
    message:
        "{wildcards.dataset}: making the dataset file"
    shell:
        stage(
            "dataset",
            "{params.kind} --output={output} --data-root={resources.data_root} "
            "--threads={threads} {params.source}",
            follow=True,
        )


rule datasets:
    input:
        expand(rules.dataset.output, dataset=RUN.datasets),
    message:
        f"{RUN.name}: datasets done"
