rule dataset:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/data/logs/{dataset}.log",
    benchmark:
        "results/data/benchmarks/{dataset}.tsv"
    conda:
        ENVIRONMENT
    threads: lambda w: 16 if preset(w)["source"]["kind"] in ("celeba", "images") else 1
    resources:
        mem_mb=4000,
        runtime="4h",
        # Where the files lie and not what they are: a resource, so that moving them makes
        # nothing stale.
        data_root=config["data_root"],
    params:
        kind=lambda w: preset(w)["source"]["kind"],
        source=source_flags,
        code=lambda w: digest(f"dataset {preset(w)['source']['kind']}"),
    shell:
        "python -m flowquant dataset {params.kind} --output {output} "
        "--data-root {resources.data_root:q} --threads {threads} {params.source} 2>&1 | tee {log}"
