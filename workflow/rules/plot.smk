rule plot_metrics:
    input:
        summary=rules.collect.output.summary,
        published=lambda w: "results/published/"
        + ("downstream" if w.metric == "accuracy" else "samples_evaluation")
        + "_results.json",
    output:
        figure("{dataset}_{metric}", "metric", "{metric} over bits"),
    log:
        "<logs>/plot/{dataset}_{metric}.log",
    wildcard_constraints:
        metric="fid|is|accuracy",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=config["plot"]["dpi"],
        code=digest("plot_metrics"),
    shell:
        "python -m flowquant plot_metrics --summary {input.summary} "
        "--published {input.published} --dataset {wildcards.dataset} "
        "--metric {wildcards.metric} --outputs {output} --dpi {params.dpi} 2> {log}"


rule plot_levels:
    input:
        model="<run>/models/{dataset}_model.safetensors",
        quantized=expand(
            "<run>/quantized_models/{{dataset}}/{variant}.safetensors",
            variant=QUANTIZED,
        ),
    output:
        figures=figure("{dataset}_levels", "levels", "levels"),
        data="<run>/plots/{dataset}_levels.json",
    log:
        "<logs>/plot/{dataset}_levels.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        names=QUANTIZED,
        tensor=config["plot"]["levels_of"],
        dpi=config["plot"]["dpi"],
        code=digest("plot_levels"),
    shell:
        "python -m flowquant plot_levels --model {input.model} --quantized {input.quantized} "
        "--names {params.names} --tensor {params.tensor} --outputs {output.figures} "
        "--data {output.data} --dpi {params.dpi} 2> {log}"


rule plot_samples:
    input:
        expand(
            "<run>/sampling/{{dataset}}/{variant}/seed{seed}.safetensors",
            variant=VARIANTS,
            seed=config["seeds"][0],
        ),
    output:
        figure("{dataset}_samples", "samples", "samples"),
    log:
        "<logs>/plot/{dataset}_samples.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        columns=config["plot"]["sample_columns"],
        dpi=config["plot"]["dpi"],
        code=digest("plot_samples"),
    shell:
        "python -m flowquant plot_samples --samples {input} --outputs {output} "
        "--columns {params.columns} --dpi {params.dpi} 2> {log}"


rule plot_allocation:
    input:
        "<run>/allocations/{dataset}/{method}/{bits}bit.json",
    output:
        figure(
            "{dataset}_{method}_{bits}bit_allocation",
            "allocation",
            "widths of {method}/{bits}bit",
        ),
    log:
        "<logs>/plot/{dataset}_{method}_{bits}bit_allocation.log",
    wildcard_constraints:
        method=names(MIXED),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=config["plot"]["dpi"],
        code=digest("plot_allocation"),
    shell:
        "python -m flowquant plot_allocation --allocation {input} --outputs {output} "
        "--dpi {params.dpi} 2> {log}"
