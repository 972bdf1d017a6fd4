rule fidelity:
    input:
        model=MODEL,
        quantized=PACKED,
        model_samples="<run>/sampling/{dataset}/full/seed{seed}.safetensors",
        quantized_samples=IMAGES,
    output:
        "<run>/fidelity/{dataset}/{variant}/seed{seed}.json",
    log:
        "<logs>/fidelity/{dataset}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/fidelity/{dataset}/{variant}/seed{seed}.tsv"
    wildcard_constraints:
        variant=names(RUN.quantized),
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        settings=RUN.fidelity_options,
        code=RUN.code("fidelity"),
    message:
        "{wildcards.dataset}: comparing {wildcards.variant} with full precision, seed {wildcards.seed}"
    shell:
        stage(
            "fidelity",
            "--model={input.model} --quantized={input.quantized} "
            "--model-samples={input.model_samples} "
            "--quantized-samples={input.quantized_samples} --output={output} "
            "--device={resources.device} {params.settings}",
        )


FIDELITIES = expand(
    rules.fidelity.output,
    dataset=RUN.datasets if CONFIG.fidelity is not None else [],
    variant=RUN.quantized,
    seed=RUN.seeds,
)
