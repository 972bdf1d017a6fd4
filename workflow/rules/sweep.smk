# One job samples a variant with all solvers: starting a process for each would cost more.
rule sweep_variant:
    input:
        unpack(sampled_from),
        real=expand(
            rules.real_features.output, extractor=RUN.extractor, allow_missing=True
        ),
        weights=RUN.extractor_weights,
    output:
        "<run>/sweep/{dataset}{training}/{variant}.json",
    log:
        "<logs>/sweep/{dataset}{training}/{variant}.log",
    benchmark:
        "<benchmarks>/sweep/{dataset}{training}/{variant}.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        # Results do not depend on these: resources, so that changing them makes nothing stale.
        batch=CONFIG.batch,
        packed=str(CONFIG.packed),
        mem_mb=RUN.memory(8000),
        runtime="8h",
    params:
        seed=RUN.seeds[0],
        extractor=RUN.extractor,
        settings=RUN.sweep_options,
        training_seed=RUN.training_seed,
        data=sampled_attributes,
        code=RUN.code("sweep"),
    message:
        "{wildcards.dataset}{wildcards.training}: {wildcards.variant} with each solver"
    shell:
        stage(
            "sweep",
            "--model={input.model} {params.data} --real={input.real} --weights={input.weights} "
            "--output={output} --dataset={wildcards.dataset} --variant={wildcards.variant} "
            "--training-seed={params.training_seed} "
            "--seed={params.seed} --extractor={params.extractor} --batch={resources.batch} "
            "--packed={resources.packed} --device={resources.device} {params.settings}",
        )


rule collect_sweep:
    input:
        expand(
            rules.sweep_variant.output,
            dataset=RUN.datasets,
            training=FIRST,
            variant=RUN.swept,
        ),
    output:
        summary="<run>/sweep.csv",
        table="<run>/sweep.md",
    log:
        "<logs>/collect_sweep.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=RUN.code("collect_sweep"),
    message:
        f"{RUN.name}: gathering the sweep"
    shell:
        stage(
            "collect_sweep",
            "--sweeps {input} --summary={output.summary} --table={output.table}",
        )


rule plot_sweep:
    input:
        rules.collect_sweep.output.summary,
    output:
        figure("{dataset}_sweep", "sweep", "FID over evaluations"),
    log:
        "<logs>/plot/{dataset}_sweep.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_sweep"),
    message:
        "{wildcards.dataset}: plotting the sweep"
    shell:
        stage(
            "plot_sweep",
            "--summary={input} --dataset={wildcards.dataset} --outputs {output} "
            "--dpi={params.dpi}",
        )


rule sweep:
    input:
        rules.collect_sweep.output,
        expand(rules.plot_sweep.output, dataset=RUN.datasets),
    message:
        f"{RUN.name}: sweep done"
