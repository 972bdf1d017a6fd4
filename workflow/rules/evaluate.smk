rule inception_weights:
    output:
        "results/data/inception-v3-compat.pth",
    log:
        "results/data/logs/inception-v3-compat.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        source=command_flags(
            {key: config["evaluation"]["weights"][key] for key in ("urls", "sha256")}
        ),
        code=digest("inception_weights"),
    shell:
        "python -m flowquant inception_weights --path {output} {params.source} 2> {log}"


rule real_features:
    input:
        data="results/data/{dataset}.safetensors",
        weights=extractor_weights,
    output:
        f"<run>/evaluation/{{dataset}}/{EXTRACTOR}.features.safetensors",
    log:
        "<logs>/real_features/{dataset}.log",
    benchmark:
        "<benchmarks>/real_features/{dataset}.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="1h",
    params:
        extractor=EXTRACTOR,
        neighbours=METRICS["neighbours"],
        code=digest("real_features"),
    shell:
        "python -m flowquant real_features --data {input.data} --weights {input.weights} "
        "--output {output} --extractor {params.extractor} --neighbours {params.neighbours} "
        "--device {resources.device} 2> {log}"


rule evaluate:
    input:
        samples="<run>/sampling/{dataset}/{variant}/seed{seed}.safetensors",
        real=rules.real_features.output,
        weights=extractor_weights,
    output:
        "<run>/evaluation/{dataset}/{variant}/seed{seed}.json",
    log:
        "<logs>/evaluate/{dataset}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/{dataset}/{variant}/seed{seed}.tsv"
    wildcard_constraints:
        variant=names(["real", *VARIANTS]),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
        device=config["device"],
        mem_mb=8000,
        runtime="1h",
    params:
        extractor=EXTRACTOR,
        metrics=command_flags(
            {"metrics": {k: v for k, v in METRICS.items() if k != "neighbours"}}
        ),
        code=digest("evaluate"),
    shell:
        "python -m flowquant evaluate --samples {input.samples} --real {input.real} "
        "--weights {input.weights} --output {output} --extractor {params.extractor} "
        "--device {resources.device} {params.metrics} 2> {log}"
