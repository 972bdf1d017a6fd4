rule downstream:
    input:
        samples=IMAGES,
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
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(4000),
        runtime="30m",
    params:
        code=RUN.code("downstream"),
    message:
        "{wildcards.dataset}{wildcards.training}: classifying {wildcards.variant}, seed {wildcards.seed}"
    shell:
        stage(
            "downstream",
            "--samples={input.samples} --classifier={input.classifier} --output={output} "
            "--device={resources.device}",
        )


DOWNSTREAMS = of_models(
    rules.downstream.output,
    RUN.classified,
    variant=RUN.variants,
    seed=RUN.seeds,
)
