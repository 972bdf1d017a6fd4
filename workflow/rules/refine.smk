rule refine:
    input:
        model="<run>/models/{dataset}_model.safetensors",
        unrefined=rules.quantize_to_refine.output.packed,
        data="results/data/{dataset}.safetensors",
    output:
        packed="<run>/quantized_models/{dataset}/{method}/{bits}bit.safetensors",
        report="<run>/quantized_models/{dataset}/{method}/{bits}bit.json",
        curve="<run>/quantized_models/{dataset}/{method}/{bits}bit_refinement.jsonl",
    log:
        "<logs>/refine/{dataset}/{method}_{bits}bit.log",
    benchmark:
        "<benchmarks>/refine/{dataset}/{method}_{bits}bit.tsv"
    wildcard_constraints:
        method=names(REFINED),
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=16000,
        runtime="4h",
    params:
        refine=lambda w: command_flags({"refine": METHODS[w.method]["refine"]}),
        withhold=lambda w: preset(w)["training"]["condition_dropout"],
        code=digest("refine"),
        # No output: Snakemake would delete it before a retry, and the retry could not go on.
        checkpoint=lambda w: f"results/{config['run']}/checkpoints/{w.dataset}_{w.method}_{w.bits}bit.pt",
    shell:
        "python -m flowquant refine --model {input.model} --unrefined {input.unrefined} "
        "--data {input.data} --output {output.packed} --report {output.report} "
        "--curve {output.curve} --checkpoint {params.checkpoint} --dataset {wildcards.dataset} "
        "--variant {wildcards.method}/{wildcards.bits}bit --withhold {params.withhold} "
        "--device {resources.device} {params.refine} 2>&1 | tee {log}"
