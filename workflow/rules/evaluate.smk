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


rule evaluate:
    input:
        samples=IMAGES,
        real=rules.real_features.output,
        weights=RUN.extractor_weights,
    output:
        "<run>/evaluation/{dataset}{training}/{variant}/seed{seed}.{extractor}.json",
    log:
        "<logs>/evaluate/{dataset}{training}/{variant}/seed{seed}.{extractor}.log",
    benchmark:
        "<benchmarks>/evaluate/{dataset}{training}/{variant}/seed{seed}.{extractor}.tsv"
    wildcard_constraints:
        variant=names(["real", *RUN.variants]),
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        metrics=RUN.metrics_options,
        code=RUN.code("evaluate"),
    message:
        "{wildcards.dataset}{wildcards.training}: scoring {wildcards.variant}, seed {wildcards.seed}, "
        "by {wildcards.extractor}"
    shell:
        stage(
            "evaluate",
            "--samples={input.samples} --real={input.real} --weights={input.weights} "
            "--output={output} --extractor={wildcards.extractor} --device={resources.device} "
            "{params.metrics}",
        )


EVALUATIONS = of_models(
    rules.evaluate.output,
    variant=RUN.variants,
    seed=RUN.seeds,
    extractor=RUN.extractors,
)
if CONFIG.evaluation.floor:
    EVALUATIONS += expand(
        rules.evaluate.output,
        dataset=RUN.datasets,
        training="",
        variant="real",
        seed=RUN.seeds,
        extractor=RUN.extractors,
    )
