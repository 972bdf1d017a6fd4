# All that is measured of one set of samples: one start, and samples are read once.
rule score:
    input:
        unpack(scored_from),
    output:
        "<run>/scores/{dataset}{training}/{variant}/seed{seed}.json",
    log:
        "<logs>/score/{dataset}{training}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/score/{dataset}{training}/{variant}/seed{seed}.tsv"
    wildcard_constraints:
        variant=names(["real", *RUN.variants]),
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="3h",
    params:
        options=RUN.score_options,
        by=scored_by,
        code=RUN.code("score"),
    message:
        "{wildcards.dataset}{wildcards.training}: scoring {wildcards.variant}, seed {wildcards.seed}"
    shell:
        stage(
            "score",
            "--samples={input.samples} --output={output} --real {input.real} "
            "--weights {input.weights} {params.by} --device={resources.device} {params.options}",
        )


SCORES = of_models(rules.score.output, variant=RUN.variants, seed=RUN.seeds)
if CONFIG.evaluation.floor:
    SCORES += expand(
        rules.score.output,
        dataset=RUN.datasets,
        training="",
        variant="real",
        seed=RUN.seeds,
    )


rule scores:
    input:
        SCORES,
    message:
        f"{RUN.name}: scores done"
