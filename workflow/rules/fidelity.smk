rule fidelity:
    input:
        model="<run>/models/{dataset}_model.safetensors",
        quantized="<run>/quantized_models/{dataset}/{variant}.safetensors",
        model_samples="<run>/sampling/{dataset}/full/seed{seed}.safetensors",
        quantized_samples="<run>/sampling/{dataset}/{variant}/seed{seed}.safetensors",
    output:
        "<run>/fidelity/{dataset}/{variant}/seed{seed}.json",
    log:
        "<logs>/fidelity/{dataset}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/fidelity/{dataset}/{variant}/seed{seed}.tsv"
    wildcard_constraints:
        variant=names(QUANTIZED),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="1h",
    params:
        fidelity=command_flags({"fidelity": config["fidelity"] or {}}),
        code=digest("fidelity"),
    shell:
        "python -m flowquant fidelity --model {input.model} --quantized {input.quantized} "
        "--model-samples {input.model_samples} --quantized-samples {input.quantized_samples} "
        "--output {output} --device {resources.device} {params.fidelity} 2> {log}"


rule plot_fidelity:
    input:
        expand(
            "<run>/fidelity/{{dataset}}/{variant}/seed{seed}.json",
            variant=QUANTIZED,
            seed=config["seeds"][0],
        ),
    output:
        figure("{dataset}_fidelity", "fidelity", "errors over time"),
    log:
        "<logs>/plot/{dataset}_fidelity.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=config["plot"]["dpi"],
        code=digest("plot_fidelity"),
    shell:
        "python -m flowquant plot_fidelity --results {input} --outputs {output} "
        "--dpi {params.dpi} 2> {log}"
