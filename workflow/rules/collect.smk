rule collect:
    input:
        evaluations=TARGETS["evaluations"],
        downstreams=TARGETS["downstreams"],
        models=expand("<run>/models/{dataset}_model.json", dataset=DATASETS)
        + expand(
            "<run>/quantized_models/{dataset}/{variant}.json",
            dataset=DATASETS,
            variant=QUANTIZED,
        ),
        fidelities=TARGETS["fidelities"],
        classifiers=expand("<run>/classifiers/{dataset}.json", dataset=CLASSIFIED),
    output:
        evaluation_results="<run>/samples_evaluation_results.json",
        downstream_results="<run>/downstream_results.json",
        summary=report(
            "<run>/summary.csv",
            caption="../report/summary.rst",
            category="tables",
            labels={"table": "all variants"},
        ),
        table="<run>/summary.md",
    log:
        "<logs>/collect.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=digest("collect"),
    shell:
        "python -m flowquant collect --evaluations {input.evaluations} --models {input.models} "
        "--downstreams {input.downstreams} --fidelities {input.fidelities} --classifiers {input.classifiers} "
        "--evaluation-results {output.evaluation_results} "
        "--downstream-results {output.downstream_results} "
        "--summary {output.summary} --table {output.table} 2> {log}"
