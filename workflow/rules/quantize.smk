rule quantize:
    input:
        "<run>/models/{dataset}_model.safetensors",
    output:
        packed="<run>/quantized_models/{dataset}/{method}/{bits}bit.safetensors",
        report="<run>/quantized_models/{dataset}/{method}/{bits}bit.json",
    log:
        "<logs>/quantize/{dataset}/{method}_{bits}bit.log",
    benchmark:
        "<benchmarks>/quantize/{dataset}/{method}_{bits}bit.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="10m",
    params:
        method=method_flags,
        code=digest("quantize"),
    shell:
        "python -m flowquant.quantize --model {input} --output {output.packed} "
        "--report {output.report} --bits {wildcards.bits} --dataset {wildcards.dataset} "
        "--variant {wildcards.method}/{wildcards.bits}bit --device {resources.device} "
        "{params.method} 2> {log}"
