rule downstream:
    input:
        features=FEATURES.replace("{extractor}", "classifier"),
        classifier=rules.classifier.output.classifier,
    output:
        "<run>/downstream/{dataset}{training}/{variant}/seed{seed}.json",
    log:
        "<logs>/downstream/{dataset}{training}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/downstream/{dataset}{training}/{variant}/seed{seed}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=RUN.memory(4000),
        runtime="10m",
    params:
        code=RUN.code("downstream"),
    message:
        "{wildcards.dataset}{wildcards.training}: classifying {wildcards.variant}, seed {wildcards.seed}"
    shell:
        stage(
            "downstream",
            "--features={input.features} --classifier={input.classifier} --output={output}",
        )


DOWNSTREAMS = of_models(
    rules.downstream.output,
    RUN.classified,
    variant=RUN.variants,
    seed=RUN.seeds,
)
