METRICS = {"fid": "FID", "is": "Inception Score", "accuracy": "accuracy"}


rule plot_metrics:
    input:
        rules.collect.output.summary,
    output:
        over_bytes=figure(
            "{dataset}_{metric}",
            "metric",
            lambda w: f"{METRICS[w.metric]} over stored size",
        ),
        over_bits=figure(
            "{dataset}_{metric}_bits",
            "metric",
            lambda w: f"{METRICS[w.metric]} over bits",
        ),
        data="<run>/plots/{dataset}_{metric}.csv",
    log:
        "<logs>/plot/{dataset}_{metric}.log",
    wildcard_constraints:
        metric=names(METRICS),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        published=RUN.published,
        # For the caption in the report.
        seeds=RUN.seeds,
        extractor=RUN.extractor,
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_metrics"),
    message:
        "{wildcards.dataset}: plotting {wildcards.metric}"
    shell:
        stage(
            "plot_metrics",
            "--summary={input} --published={params.published} --dataset={wildcards.dataset} "
            "--metric={wildcards.metric} --over-bytes {output.over_bytes} "
            "--over-bits {output.over_bits} --data={output.data} --dpi={params.dpi}",
        )


rule plot_levels:
    input:
        model=expand(MODEL, training=FIRST, allow_missing=True),
        quantized=expand(PACKED, training=FIRST, variant=RUN.packed, allow_missing=True),
    output:
        figures=figure("{dataset}_levels", "levels", "levels"),
        data="<run>/plots/{dataset}_levels.csv",
    log:
        "<logs>/plot/{dataset}_levels.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        names=RUN.packed,
        tensor=lambda w: CONFIG.plot.levels_of,
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_levels"),
    message:
        "{wildcards.dataset}: plotting levels"
    shell:
        stage(
            "plot_levels",
            "--model={input.model} --quantized {input.quantized} --names {params.names} "
            "--tensor={params.tensor} --outputs {output.figures} --data={output.data} "
            "--dpi={params.dpi}",
        )


rule plot_samples:
    input:
        expand(
            IMAGES,
            training=FIRST,
            variant=RUN.variants,
            seed=RUN.seeds[0],
            allow_missing=True,
        ),
    output:
        figures=figure("{dataset}_samples", "samples", "samples"),
        data="<run>/plots/{dataset}_samples.csv",
    log:
        "<logs>/plot/{dataset}_samples.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        columns=CONFIG.plot.sample_columns,
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_samples"),
    message:
        "{wildcards.dataset}: samples side by side"
    shell:
        stage(
            "plot_samples",
            "--samples {input} --outputs {output.figures} --data={output.data} "
            "--columns={params.columns} --dpi={params.dpi}",
        )


rule plot_allocation:
    input:
        expand(rules.allocate.output, training=FIRST, allow_missing=True),
    output:
        figure(
            "{dataset}_{method}_{bits}bit_allocation",
            "allocation",
            "widths of {method}/{bits}bit",
        ),
    log:
        "<logs>/plot/{dataset}_{method}_{bits}bit_allocation.log",
    wildcard_constraints:
        method=names(RUN.mixed),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_allocation"),
    message:
        "{wildcards.dataset}: plotting the widths of {wildcards.method}/{wildcards.bits}bit"
    shell:
        stage(
            "plot_allocation",
            "--allocation={input} --outputs {output} --dpi={params.dpi}",
        )


rule plot_fidelity:
    input:
        expand(
            rules.score.output,
            training=FIRST,
            variant=RUN.quantized,
            seed=RUN.seeds[0],
            allow_missing=True,
        ),
    output:
        figures=figure("{dataset}_fidelity", "fidelity", "errors over time"),
        data="<run>/plots/{dataset}_fidelity.csv",
    log:
        "<logs>/plot/{dataset}_fidelity.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_fidelity"),
    message:
        "{wildcards.dataset}: plotting errors over time"
    shell:
        stage(
            "plot_fidelity",
            "--scores {input} --outputs {output.figures} --data={output.data} "
            "--dpi={params.dpi}",
        )


rule plot_curves:
    input:
        unpack(curves),
    output:
        figures=figure("{dataset}_curves", "curves", "losses"),
        data="<run>/plots/{dataset}_curves.csv",
    log:
        "<logs>/plot/{dataset}_curves.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        names=REFINED,
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_curves"),
    message:
        "{wildcards.dataset}: plotting losses"
    shell:
        stage(
            "plot_curves",
            "--dataset={wildcards.dataset} --training {input.training} "
            "--refinements {input.refinements} --names {params.names} "
            "--outputs {output.figures} --data={output.data} --dpi={params.dpi}",
        )


PLOTS = (
    expand(
        rules.plot_metrics.output,
        dataset=RUN.datasets,
        metric=["fid"] + ["is"] * classifies(RUN.extractor),
    )
    + expand(rules.plot_metrics.output, dataset=RUN.classified, metric="accuracy")
    + expand(rules.plot_levels.output, dataset=RUN.datasets)
    + expand(rules.plot_samples.output, dataset=RUN.datasets)
    + expand(rules.plot_curves.output, dataset=RUN.datasets if REFINED else RUN.trained)
)
for variant in RUN.allocated:
    PLOTS += expand(
        rules.plot_allocation.output,
        dataset=RUN.datasets,
        method=variant.method,
        bits=f"{variant.bits:g}",
    )
if CONFIG.fidelity is not None:
    PLOTS += expand(rules.plot_fidelity.output, dataset=RUN.datasets)
