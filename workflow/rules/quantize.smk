rule hessians:
    input:
        model=MODEL,
        data=rules.dataset.output,
    output:
        "<run>/hessians/{dataset}{training}/{source}_{points}.safetensors",
    log:
        "<logs>/hessians/{dataset}{training}/{source}_{points}.log",
    benchmark:
        "<benchmarks>/hessians/{dataset}{training}/{source}_{points}.tsv"
    wildcard_constraints:
        source="images|trajectories",
        points="[0-9]+",
    priority: 20
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        code=RUN.code("hessians"),
    message:
        "{wildcards.dataset}{wildcards.training}: what layers are given at {wildcards.points} points of {wildcards.source}"
    shell:
        stage(
            "hessians",
            "--model={input.model} --data={input.data} --output={output} "
            "--settings.points={wildcards.points} --settings.source={wildcards.source} "
            "--device={resources.device}",
        )


rule sensitivity:
    input:
        unpack(to_measure),
    output:
        "<run>/allocations/{dataset}{training}/{method}/sensitivity.json",
    log:
        "<logs>/sensitivity/{dataset}{training}/{method}.log",
    benchmark:
        "<benchmarks>/sensitivity/{dataset}{training}/{method}.tsv"
    wildcard_constraints:
        method=names(RUN.mixed),
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        method=RUN.method_options,
        settings=RUN.sensitivity_options,
        compensation=RUN.compensation_options,
        hessians=hessians_option,
        code=RUN.code("sensitivity"),
    message:
        "{wildcards.dataset}{wildcards.training}: measuring how sensitive each tensor is to {wildcards.method}"
    shell:
        stage(
            "sensitivity",
            "--model={input.model} --data={input.data} --output={output} "
            "--dataset={wildcards.dataset} --device={resources.device} "
            "{params.method} {params.settings} {params.hessians} {params.compensation}",
        )


rule allocate:
    input:
        rules.sensitivity.output,
    output:
        "<run>/allocations/{dataset}{training}/{method}/{bits}bit.json",
    log:
        "<logs>/allocate/{dataset}{training}/{method}_{bits}bit.log",
    wildcard_constraints:
        method=names(RUN.mixed),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=RUN.code("allocate"),
    message:
        "{wildcards.dataset}{wildcards.training}: choosing widths for {wildcards.bits} bits of {wildcards.method}"
    shell:
        stage(
            "allocate",
            "--sensitivity={input} --output={output} "
            "--variant={wildcards.method}/{wildcards.bits}bit --budget={wildcards.bits}",
        )


rule quantize:
    input:
        unpack(to_quantize),
    output:
        packed="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit.safetensors",
        report="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit.json",
    log:
        "<logs>/quantize/{dataset}{training}/{method}_{bits}bit.log",
    benchmark:
        "<benchmarks>/quantize/{dataset}{training}/{method}_{bits}bit.tsv"
    wildcard_constraints:
        method=names(name for name in RUN.methods if name not in RUN.refined),
    priority: 20
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="10m",
    params:
        method=RUN.method_options,
        width=width_options,
        training_seed=RUN.training_seed,
        compensation=RUN.compensation_options,
        hessians=hessians_option,
        code=RUN.code("quantize"),
    message:
        "{wildcards.dataset}{wildcards.training}: quantizing to {wildcards.method}/{wildcards.bits}bit"
    shell:
        stage(
            "quantize",
            "{input.model} --output={output.packed} --report={output.report} "
            "--dataset={wildcards.dataset} --training-seed={params.training_seed} "
            "--variant={wildcards.method}/{wildcards.bits}bit --device={resources.device} "
            "{params.method} {params.width} {params.hessians} {params.compensation}",
        )


use rule quantize as quantize_to_refine with:
    output:
        packed="<run>/unrefined/{dataset}{training}/{method}/{bits}bit.safetensors",
        report="<run>/unrefined/{dataset}{training}/{method}/{bits}bit.json",
    wildcard_constraints:
        method=names(RUN.refined),


# A peer's own code, in a program of its own, which the packages of this environment are for.
rule quantize_peer:
    input:
        MODEL,
    output:
        weights="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit.safetensors",
        report="<run>/quantized_models/{dataset}{training}/{method}/{bits}bit.json",
    log:
        "<logs>/quantize_peer/{dataset}{training}/{method}_{bits}bit.log",
    benchmark:
        "<benchmarks>/quantize_peer/{dataset}{training}/{method}_{bits}bit.tsv"
    wildcard_constraints:
        method=names(RUN.peers),
    priority: 20
    conda:
        PEERS_ENVIRONMENT
    threads: 2
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        mem_mb=RUN.memory(8000),
        runtime="1h",
    params:
        program=RUN.program,
        settings=RUN.peer_options,
        training_seed=RUN.training_seed,
        code=RUN.peer_code,
    message:
        "{wildcards.dataset}{wildcards.training}: quantizing to {wildcards.method}/{wildcards.bits}bit by its own code"
    shell:
        stage(
            "quantize_peer",
            "--model={input} --output={output.weights} --report={output.report} "
            "--program={params.program} --dataset={wildcards.dataset} "
            "--training-seed={params.training_seed} "
            "--variant={wildcards.method}/{wildcards.bits}bit --bits={wildcards.bits} "
            "--device={resources.device} {params.settings}",
        )


PACKED = "<run>/quantized_models/{dataset}{training}/{variant}.safetensors"
QUANTIZED_REPORTS = of_models(
    PACKED.replace(".safetensors", ".json"), variant=RUN.quantized
)
