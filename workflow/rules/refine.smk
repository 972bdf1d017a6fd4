rule refine:
    input:
        model=MODEL,
        unrefined=rules.quantize_to_refine.output.packed,
        data=rules.dataset.output,
    output:
        packed="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit.safetensors",
        report="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit.json",
        curve="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit_refinement.jsonl",
    log:
        "<logs>/refine/{dataset}{training}/{method}_{bits}bit.log",
    benchmark:
        "<benchmarks>/refine/{dataset}{training}/{method}_{bits}bit.tsv"
    wildcard_constraints:
        method=names(RUN.refined),
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=RUN.per_device("refine", RUN.gpus),
        device=CONFIG.device,
        devices=RUN.per_device("refine", 1),
        mem_mb=RUN.memory(16000, "refine"),
        runtime="4h",
    params:
        settings=RUN.refine_options,
        training_seed=RUN.training_seed,
        condition_dropout=lambda w: RUN.preset(w).training.condition_dropout,
        code=RUN.code("refine"),
        # No output: Snakemake would delete it before a retry, and the retry could not resume.
        checkpoint=lambda w: f"results/{RUN.name}/checkpoints/{w.dataset}{w.training}_{w.method}_{w.bits}bit.pt",
    message:
        "{wildcards.dataset}{wildcards.training}: refining {wildcards.method}/{wildcards.bits}bit"
    shell:
        stage(
            "refine",
            "--model={input.model} --unrefined={input.unrefined} --data={input.data} "
            "--output={output.packed} --report={output.report} --curve={output.curve} "
            "--checkpoint={params.checkpoint} --dataset={wildcards.dataset} "
            "--training-seed={params.training_seed} --variant={wildcards.method}/{wildcards.bits}bit "
            "--condition-dropout={params.condition_dropout} --device={resources.device} "
            "--devices={resources.devices} {params.settings}",
            follow=True,
        )


rule quantized:
    input:
        of_models(PACKED, variant=RUN.quantized),
        QUANTIZED_REPORTS,
        of_models(
            PACKED.replace(".safetensors", "_refinement.jsonl"),
            variant=[v for v in RUN.quantized if v.partition("/")[0] in RUN.refined],
        ),
    message:
        f"{RUN.name}: quantized models done"
