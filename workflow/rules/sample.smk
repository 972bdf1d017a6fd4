rule sample:
    input:
        unpack(sampled_from),
    output:
        images="<run>/sampling/{dataset}/{variant}/seed{seed}.safetensors",
        grid="<run>/sampling/{dataset}/{variant}/seed{seed}.png",
    log:
        "<logs>/sample/{dataset}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/sample/{dataset}/{variant}/seed{seed}.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    resources:
        gpu=per_device("sampling", GPU),
        device=config["device"],
        devices=per_device("sampling"),
        # Results do not depend on these: resources, so that changing them makes nothing stale.
        batch=config["batch"],
        packed=str(config["packed"]),
        mem_mb=per_device("sampling", 8000),
        runtime="8h",
    params:
        sampling=flags("sampling"),
        data=lambda w, input: f"--data {input.data}" if input.get("data") else "",
        code=digest("sample"),
    shell:
        "python -m flowquant sample --model {input.model} {params.data} "
        "--output {output.images} --grid {output.grid} "
        "--dataset {wildcards.dataset} --variant {wildcards.variant} --seed {wildcards.seed} "
        "--batch {resources.batch} --packed {resources.packed} "
        "--device {resources.device} --devices {resources.devices} "
        "{params.sampling} 2> {log}"


rule sample_real:
    input:
        "results/data/{dataset}.safetensors",
    output:
        "<run>/sampling/{dataset}/real/seed{seed}.safetensors",
    log:
        "<logs>/sample/{dataset}/real/seed{seed}.log",
    benchmark:
        "<benchmarks>/sample/{dataset}/real/seed{seed}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime="10m",
    params:
        images=samples_per_seed,
        code=digest("sample_real"),
    shell:
        "python -m flowquant sample_real --data {input} --output {output} "
        "--dataset {wildcards.dataset} --count {params.images} --seed {wildcards.seed} 2> {log}"
