rule collect:
    input:
        scores=SCORES,
        models=of_models(MODEL_REPORT) + QUANTIZED_REPORTS,
        classifiers=expand(rules.classifier.output.report, dataset=RUN.classified),
    output:
        results="<run>/results.csv",
        evaluation_results="<run>/samples_evaluation_results.json",
        downstream_results="<run>/downstream_results.json",
        summary=report(
            "<run>/summary.csv",
            caption="../report/summary.rst",
            category="tables",
            labels={"table": "all variants (CSV)"},
        ),
        table="<run>/summary.md",
    log:
        "<logs>/collect.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        extractors=RUN.extractors,
        references=RUN.reference_accuracies(RUN.classified),
        code=RUN.code("collect"),
    message:
        f"{RUN.name}: gathering all results"
    shell:
        stage(
            "collect",
            "--scores {input.scores} --extractors {params.extractors} --models {input.models} "
            "--classifiers {input.classifiers} --references {params.references} "
            "--results={output.results} --evaluation-results={output.evaluation_results} "
            "--downstream-results={output.downstream_results} --summary={output.summary} "
            "--table={output.table}",
        )
