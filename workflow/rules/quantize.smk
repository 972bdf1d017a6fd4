rule quantize:
    input:
        unpack(to_quantize),
    output:
        packed="<run>/quantized_models/{dataset}/{method}/{bits}bit.safetensors",
        report="<run>/quantized_models/{dataset}/{method}/{bits}bit.json",
    log:
        "<logs>/quantize/{dataset}/{method}_{bits}bit.log",
    benchmark:
        "<benchmarks>/quantize/{dataset}/{method}_{bits}bit.tsv"
    wildcard_constraints:
        method=names(m for m in METHODS if m not in REFINED),
    priority: 20
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="10m",
    params:
        method=method_flags,
        width=width_flags,
        code=digest("quantize"),
    shell:
        "python -m flowquant quantize --model {input.model} --output {output.packed} "
        "--report {output.report} --dataset {wildcards.dataset} "
        "--variant {wildcards.method}/{wildcards.bits}bit --device {resources.device} "
        "{params.method} {params.width} 2> {log}"


use rule quantize as quantize_to_refine with:
    output:
        packed="<run>/unrefined/{dataset}/{method}/{bits}bit.safetensors",
        report="<run>/unrefined/{dataset}/{method}/{bits}bit.json",
    wildcard_constraints:
        method=names(REFINED),


rule sensitivity:
    input:
        model="<run>/models/{dataset}_model.safetensors",
        data="results/data/{dataset}.safetensors",
    output:
        "<run>/allocations/{dataset}/{method}/sensitivity.json",
    log:
        "<logs>/sensitivity/{dataset}/{method}.log",
    benchmark:
        "<benchmarks>/sensitivity/{dataset}/{method}.tsv"
    wildcard_constraints:
        method=names(MIXED),
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="1h",
    params:
        method=method_flags,
        sensitivity=lambda w: command_flags(
            {"sensitivity": METHODS[w.method]["sensitivity"]}
        ),
        code=digest("sensitivity"),
    shell:
        "python -m flowquant sensitivity --model {input.model} --data {input.data} "
        "--output {output} --dataset {wildcards.dataset} --device {resources.device} "
        "{params.method} {params.sensitivity} 2> {log}"


rule allocate:
    input:
        rules.sensitivity.output,
    output:
        "<run>/allocations/{dataset}/{method}/{bits}bit.json",
    log:
        "<logs>/allocate/{dataset}/{method}_{bits}bit.log",
    wildcard_constraints:
        method=names(MIXED),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=digest("allocate"),
    shell:
        "python -m flowquant allocate --sensitivity {input} --output {output} "
        "--variant {wildcards.method}/{wildcards.bits}bit --budget {wildcards.bits} 2> {log}"
