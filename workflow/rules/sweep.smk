# One job samples a variant with all solvers: starting a process for each would cost more.
rule sweep_variant:
    input:
        unpack(sampled_from),
        real=rules.real_features.output,
        weights=extractor_weights,
    output:
        "<run>/sweep/{dataset}/{variant}.json",
    log:
        "<logs>/sweep/{dataset}/{variant}.log",
    benchmark:
        "<benchmarks>/sweep/{dataset}/{variant}.tsv"
    conda:
        ENVIRONMENT
    resources:
        gpu=GPU,
        device=config["device"],
        # Results do not depend on it: a resource, so that changing it makes nothing stale.
        batch=config["batch"],
        packed=str(config["packed"]),
        mem_mb=8000,
        runtime="8h",
    params:
        seed=config["seeds"][0],
        extractor=EXTRACTOR,
        sweep=sweep_flags,
        data=lambda w, input: f"--data {input.data}" if input.get("data") else "",
        code=digest("sweep"),
    shell:
        "python -m flowquant sweep --model {input.model} {params.data} --real {input.real} "
        "--weights {input.weights} --output {output} --dataset {wildcards.dataset} "
        "--variant {wildcards.variant} --seed {params.seed} --extractor {params.extractor} "
        "--batch {resources.batch} --packed {resources.packed} --device {resources.device} "
        "{params.sweep} 2> {log}"


rule collect_sweep:
    input:
        TARGETS["sweeps"],
    output:
        summary="<run>/sweep.csv",
        table="<run>/sweep.md",
    log:
        "<logs>/collect_sweep.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=digest("collect_sweep"),
    shell:
        "python -m flowquant collect_sweep --sweeps {input} --summary {output.summary} "
        "--table {output.table} 2> {log}"


rule plot_sweep:
    input:
        rules.collect_sweep.output.summary,
    output:
        figure("{dataset}_sweep", "sweep", "FID over evaluations"),
    log:
        "<logs>/plot/{dataset}_sweep.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=config["plot"]["dpi"],
        code=digest("plot_sweep"),
    shell:
        "python -m flowquant plot_sweep --summary {input} --dataset {wildcards.dataset} "
        "--outputs {output} --dpi {params.dpi} 2> {log}"
