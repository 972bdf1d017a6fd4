rule downstream:
    input:
        samples=IMAGES,
        classifier=rules.classifier.output.classifier,
    output:
        "<run>/downstream/{dataset}/{variant}/seed{seed}.json",
    log:
        "<logs>/downstream/{dataset}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/downstream/{dataset}/{variant}/seed{seed}.tsv"
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
        "{wildcards.dataset}: classifying {wildcards.variant}, seed {wildcards.seed}"
    shell:
        stage(
            "downstream",
            "--samples={input.samples} --classifier={input.classifier} --output={output} "
            "--device={resources.device}",
        )


DOWNSTREAMS = expand(
    rules.downstream.output,
    dataset=RUN.classified,
    variant=RUN.variants,
    seed=RUN.seeds,
)
