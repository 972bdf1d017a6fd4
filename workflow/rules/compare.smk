rule compare:
    input:
        evaluations=EVALUATIONS,
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
        comparisons=RUN.comparisons_options,
        code=RUN.code("compare"),
    message:
        f"{RUN.name}: comparing variants"
    shell:
        stage(
            "compare",
            "--evaluations {input.evaluations} --results={input.results} "
            "--output={output.comparisons} --table={output.table} {params.comparisons}",
        )
