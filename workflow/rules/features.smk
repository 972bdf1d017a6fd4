rule extractor_weights:
    output:
        "results/data/{extractor}.pth",
    log:
        "results/data/logs/{extractor}.log",
    wildcard_constraints:
        extractor=names(PUBLISHED),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=RUN.memory(1000),
        runtime="30m",
    params:
        weights=RUN.weights_options,
        code=RUN.code("extractor_weights"),
    message:
        "fetching the weights of {wildcards.extractor}"
    shell:
        stage(
            "extractor_weights",
            "{wildcards.extractor} --path={output} {params.weights}",
        )


rule real_features:
    input:
        data=rules.dataset.output,
        weights=RUN.extractor_weights,
    output:
        "<run>/evaluation/{dataset}/{extractor}.features.safetensors",
    log:
        "<logs>/real_features/{dataset}/{extractor}.log",
    benchmark:
        "<benchmarks>/real_features/{dataset}/{extractor}.tsv"
    # Short, and all scores wait for it.
    priority: 25
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        neighbours=CONFIG.evaluation.metrics.neighbours,
        code=RUN.code("real_features"),
    message:
        "{wildcards.dataset}: features of the real test images by {wildcards.extractor}"
    shell:
        stage(
            "real_features",
            "--data={input.data} --weights={input.weights} --output={output} "
            "--extractor={wildcards.extractor} --neighbours={params.neighbours} "
            "--device={resources.device}",
        )
