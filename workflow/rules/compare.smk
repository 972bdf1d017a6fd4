rule compare:
    input:
        scores=SCORES,
        results=rules.collect.output.results,
    output:
        comparisons="<run>/comparisons.csv",
        table="<run>/comparisons.md",
    log:
        "<logs>/compare.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        extractors=RUN.extractors,
        comparisons=RUN.comparisons_options,
        code=RUN.code("compare"),
    message:
        f"{RUN.name}: comparing variants"
    shell:
        stage(
            "compare",
            "--scores {input.scores} --extractors {params.extractors} "
            "--results={input.results} "
            "--output={output.comparisons} --table={output.table} {params.comparisons}",
        )
