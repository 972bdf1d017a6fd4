# What only the networks can tell of a configuration. First of all by priority, and input of no job:
# an input that is made anew, ancient or not, hides from Snakemake what else makes the job stale, and
# the checks of other datasets would be a change of its inputs.
rule check_preset:
    input:
        RUN.checkpoints,
    output:
        "<run>/checks/{dataset}.json",
    log:
        "<logs>/check/{dataset}.log",
    priority: 40
    conda:
        PEERS_ENVIRONMENT if RUN.peers else ENVIRONMENT
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        devices=RUN.per_device("training", 1),
        mem_mb=RUN.memory(4000),
        runtime="10m",
    params:
        options=RUN.check_options,
        # Without the user's own: Snakemake does not look at what comes after an ancient input that is
        # made anew, and would miss what else an edit makes stale.
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
