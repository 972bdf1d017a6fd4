rule distances:
    input:
        model="<run>/models/{dataset}_model.safetensors",
        quantized="<run>/quantized_models/{dataset}/{variant}.safetensors",
    output:
        "<run>/distances/{dataset}/{variant}.json",
    log:
        "<logs>/distances/{dataset}/{variant}.log",
    benchmark:
        "<benchmarks>/distances/{dataset}/{variant}.tsv"
    wildcard_constraints:
        variant=names(QUANTIZED),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        code=digest("distances"),
    shell:
        "python -m flowquant distances --model {input.model} --quantized {input.quantized} "
        "--output {output} --dataset {wildcards.dataset} --variant {wildcards.variant} 2> {log}"


rule theory:
    input:
        distances=expand(
            "<run>/distances/{{dataset}}/{variant}.json", variant=QUANTIZED
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
        dpi=config["plot"]["dpi"],
        code=digest("theory"),
    shell:
        "python -m flowquant theory --distances {input.distances} --summary {input.summary} "
        "--dataset {wildcards.dataset} --data {output.data} --table {output.table} "
        "--outputs {output.figures} --dpi {params.dpi} 2> {log}"
