rule train:
    input:
        "results/data/{dataset}.safetensors",
    output:
        model="<run>/models/{dataset}_model.safetensors",
        report="<run>/models/{dataset}_model.json",
        curve="<run>/models/{dataset}_training.jsonl",
    log:
        "<logs>/train/{dataset}.log",
    benchmark:
        "<benchmarks>/train/{dataset}.tsv"
    wildcard_constraints:
        dataset=names(name for name in DATASETS if name not in IMPORTED),
    priority: 30
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        gpu=per_device("training", GPU),
        device=config["device"],
        devices=per_device("training"),
        mem_mb=per_device("training", 16000),
        runtime="24h",
    params:
        model=model_flags,
        training=flags("training"),
        code=digest("train"),
        # No output: Snakemake would delete it before a retry, and the retry could not go on.
        checkpoint=lambda w: f"results/{config['run']}/checkpoints/{w.dataset}.pt",
    shell:
        "python -m flowquant train --data {input} --output {output.model} "
        "--report {output.report} --curve {output.curve} --checkpoint {params.checkpoint} "
        "--dataset {wildcards.dataset} "
        "--device {resources.device} --devices {resources.devices} "
        "{params.model} {params.training} 2>&1 | tee {log}"


rule import_model:
    input:
        lambda w: preset(w)["checkpoint"],
    output:
        model="<run>/models/{dataset}_model.safetensors",
        report="<run>/models/{dataset}_model.json",
    log:
        "<logs>/import/{dataset}.log",
    benchmark:
        "<benchmarks>/import/{dataset}.tsv"
    wildcard_constraints:
        dataset=names(IMPORTED),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=8000,
        runtime="10m",
    params:
        model=model_flags,
        code=digest("import_model"),
    shell:
        "python -m flowquant import_model --checkpoint {input} --output {output.model} "
        "--report {output.report} --dataset {wildcards.dataset} {params.model} 2> {log}"


# No output: it says its say every time it is asked, and checks the other files after a misfit.
rule import_check:
    log:
        "<logs>/import/check.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        checks=import_checks(),
    shell:
        "( fine=true\n{params.checks}\n$fine ) 2>&1 | tee {log}"
