# Trained or imported, by one of the two rules.
MODEL = "<run>/models/{dataset}{training}_model.safetensors"
MODEL_REPORT = "<run>/models/{dataset}{training}_model.json"


rule train:
    input:
        data=rules.dataset.output,
    output:
        model=MODEL,
        report=MODEL_REPORT,
        curve="<run>/models/{dataset}{training}_training.jsonl",
    log:
        "<logs>/train/{dataset}{training}.log",
    benchmark:
        "<benchmarks>/train/{dataset}{training}.tsv"
    wildcard_constraints:
        dataset=names(RUN.trained),
    priority: 30
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        gpu=RUN.per_device("training", RUN.gpus),
        device=CONFIG.device,
        devices=RUN.per_device("training", 1),
        mem_mb=RUN.memory(16000, "training"),
        runtime="24h",
    params:
        model=RUN.model_options,
        training=RUN.training_options,
        seed=RUN.training_seed,
        code=RUN.code("train"),
        # No output: Snakemake would delete it before a retry, and the retry could not resume.
        checkpoint=lambda w: f"results/{RUN.name}/checkpoints/{w.dataset}{w.training}.pt",
    message:
        "{wildcards.dataset}{wildcards.training}: training the velocity network"
    shell:
        stage(
            "train",
            "--data={input.data} --output={output.model} --report={output.report} "
            "--curve={output.curve} --checkpoint={params.checkpoint} "
            "--dataset={wildcards.dataset} --seed={params.seed} --device={resources.device} "
            "--devices={resources.devices} {params.model} {params.training}",
            follow=True,
        )


rule import_model:
    input:
        RUN.checkpoints,
    output:
        model=MODEL,
        report=MODEL_REPORT,
    log:
        "<logs>/import/{dataset}{training}.log",
    benchmark:
        "<benchmarks>/import/{dataset}{training}.tsv"
    wildcard_constraints:
        dataset=names(RUN.imported),
        training=f"({FIRST})",  # an empty one would not count
    conda:
        ENVIRONMENT
    resources:
        mem_mb=RUN.memory(8000),
        runtime="10m",
    params:
        checkpoint=RUN.checkpoint_options,
        training_seed=RUN.training_seed,
        model=RUN.model_options,
        code=RUN.code("import_model"),
    message:
        "{wildcards.dataset}{wildcards.training}: importing the checkpoint"
    shell:
        stage(
            "import_model",
            "{params.checkpoint} --output={output.model} --report={output.report} "
            "--dataset={wildcards.dataset} --training-seed={params.training_seed} {params.model}",
        )


rule models:
    input:
        CHECKS,
        of_models(rules.train.output, RUN.trained),
        of_models(rules.import_model.output, RUN.imported),
    message:
        f"{RUN.name}: models done"
