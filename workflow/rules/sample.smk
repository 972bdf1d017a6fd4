# Generated, or real images drawn by the second rule.
IMAGES = "<run>/sampling/{dataset}{training}/{variant}/seed{seed}.safetensors"


rule sample:
    input:
        unpack(sampled_from),
    output:
        IMAGES,
    log:
        "<logs>/sample/{dataset}{training}/{variant}/seed{seed}.log",
    benchmark:
        "<benchmarks>/sample/{dataset}{training}/{variant}/seed{seed}.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    resources:
        gpu=RUN.per_device("sampling", RUN.gpus),
        device=CONFIG.device,
        devices=RUN.per_device("sampling", 1),
        # Results do not depend on these: resources, so that changing them makes nothing stale.
        batch=CONFIG.batch,
        packed=str(CONFIG.packed),
        mem_mb=RUN.memory(8000, "sampling"),
        runtime="8h",
    params:
        sampling=RUN.sampling_options,
        training_seed=RUN.training_seed,
        data=sampled_attributes,
        code=RUN.code("sample"),
    message:
        "{wildcards.dataset}{wildcards.training}: sampling {wildcards.variant}, seed {wildcards.seed}"
    shell:
        stage(
            "sample",
            "{input.model} {params.data} --output={output} "
            "--dataset={wildcards.dataset} --training-seed={params.training_seed} "
            "--variant={wildcards.variant} --seed={wildcards.seed} "
            "--batch={resources.batch} --packed={resources.packed} --device={resources.device} "
            "--devices={resources.devices} {params.sampling}",
        )


rule sample_real:
    input:
        rules.dataset.output,
    output:
        "<run>/sampling/{dataset}/real/seed{seed}.safetensors",
    log:
        "<logs>/sample/{dataset}/real/seed{seed}.log",
    benchmark:
        "<benchmarks>/sample/{dataset}/real/seed{seed}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=RUN.memory(4000),
        runtime="10m",
    params:
        images=RUN.samples,
        condition=RUN.condition_options,
        code=RUN.code("sample_real"),
    message:
        "{wildcards.dataset}: drawing real images, seed {wildcards.seed}"
    shell:
        stage(
            "sample_real",
            "--data={input} --output={output} --dataset={wildcards.dataset} "
            "--count={params.images} --seed={wildcards.seed} {params.condition}",
        )


# Apart from sampling: a grid that is lost is drawn again, and nothing else is made. A job for each
# seed, for Snakemake looks through a rule's outputs for every file of its folder.
rule sample_grids:
    input:
        expand(IMAGES, variant=RUN.variants, allow_missing=True),
    output:
        expand(
            IMAGES.replace(".safetensors", ".png"),
            variant=RUN.variants,
            allow_missing=True,
        ),
    log:
        "<logs>/sample_grids/{dataset}{training}/seed{seed}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        per_class=lambda w: RUN.preset(w).sampling.per_class,
        code=RUN.code("sample_grids"),
    message:
        "{wildcards.dataset}{wildcards.training}: drawing samples of each variant, seed {wildcards.seed}"
    shell:
        stage(
            "sample_grids",
            "--samples {input} --outputs {output} --per-class={params.per_class}",
        )


GRIDS = of_models(rules.sample_grids.output, seed=RUN.seeds)


rule samples:
    input:
        of_models(IMAGES, variant=RUN.variants, seed=RUN.seeds),
    message:
        f"{RUN.name}: samples done"
