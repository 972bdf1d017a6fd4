# What only the networks can tell of a configuration, before anything is trained.
rule check_preset:
    input:
        RUN.checkpoints,
    output:
        "<run>/checks/{dataset}.json",
    log:
        "<logs>/check/{dataset}.log",
    priority: 40
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        devices=RUN.per_device("training", 1),
        mem_mb=RUN.memory(4000),
        runtime="10m",
    params:
        options=RUN.check_options,
        code=digest("check"),
    message:
        "{wildcards.dataset}: checking network, classifier, checkpoint and memory"
    shell:
        stage(
            "check",
            "--output={output} --dataset={wildcards.dataset} --device={resources.device} "
            "--devices={resources.devices} {params.options}",
        )


CHECKS = expand(rules.check_preset.output, dataset=RUN.datasets)


rule check:
    input:
        CHECKS,
    message:
        f"{RUN.name}: all presets fit"
