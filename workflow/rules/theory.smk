rule distances:
    input:
        model=MODEL,
        quantized=PACKED,
    output:
        "<run>/distances/{dataset}{training}/{variant}.json",
    log:
        "<logs>/distances/{dataset}{training}/{variant}.log",
    benchmark:
        "<benchmarks>/distances/{dataset}{training}/{variant}.tsv"
    wildcard_constraints:
        variant=names(RUN.packed),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        training_seed=RUN.training_seed,
        code=RUN.code("distances"),
    message:
        "{wildcards.dataset}{wildcards.training}: W₂ of each tensor of {wildcards.variant}"
    shell:
        stage(
            "distances",
            "--model={input.model} --quantized={input.quantized} --output={output} "
            "--dataset={wildcards.dataset} --training-seed={params.training_seed} "
            "--variant={wildcards.variant}",
        )


rule theory:
    input:
        distances=expand(
            rules.distances.output,
            training=FIRST,
            variant=RUN.packed,
            allow_missing=True,
        ),
        summary=rules.collect.output.summary,
    output:
        data="<run>/theory/{dataset}.json",
        table="<run>/theory/{dataset}.md",
        figures=figure("{dataset}_theory", "theory", "errors over bits, FID over W₂"),
    log:
        "<logs>/theory/{dataset}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=CONFIG.plot.dpi,
        code=RUN.code("theory"),
    message:
        "{wildcards.dataset}: theory and measurement"
    shell:
        stage(
            "theory",
            "--distances {input.distances} --summary={input.summary} "
            "--dataset={wildcards.dataset} --data={output.data} --table={output.table} "
            "--outputs {output.figures} --dpi={params.dpi}",
        )


if CONFIG.theory:
    PLOTS += expand(rules.theory.output, dataset=RUN.datasets)
