rule evaluate:
    input:
        features=FEATURES,
        real=rules.real_features.output,
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
        mem_mb=RUN.memory(8000),
        runtime="2h",
    params:
        metrics=RUN.metrics_options,
        code=RUN.code("evaluate"),
    message:
        "{wildcards.dataset}{wildcards.training}: scoring {wildcards.variant}, seed {wildcards.seed}, "
        "by {wildcards.extractor}"
    shell:
        stage(
            "evaluate",
            "--features={input.features} --real={input.real} --output={output} {params.metrics}",
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
