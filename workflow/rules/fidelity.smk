rule fidelity:
    input:
        model=MODEL,
        quantized=PACKED,
        model_samples="<run>/sampling/{dataset}{training}/full/seed{seed}.safetensors",
        quantized_samples=IMAGES,
    output:
        "<run>/fidelity/{dataset}{training}/{variant}/seed{seed}.json",
    log:
        "<logs>/fidelity/{dataset}{training}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/fidelity/{dataset}{training}/{variant}/seed{seed}.tsv"
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
        "{wildcards.dataset}{wildcards.training}: comparing {wildcards.variant} with full precision, seed {wildcards.seed}"
    shell:
        stage(
            "fidelity",
            "--model={input.model} --quantized={input.quantized} "
            "--model-samples={input.model_samples} "
            "--quantized-samples={input.quantized_samples} --output={output} "
            "--device={resources.device} {params.settings}",
        )


FIDELITIES = of_models(
    rules.fidelity.output,
    RUN.datasets if CONFIG.fidelity is not None else [],
    variant=RUN.quantized,
    seed=RUN.seeds,
)
