rule classifier:
    input:
        data=rules.dataset.output,
    output:
        classifier="<run>/classifiers/{dataset}.safetensors",
        report="<run>/classifiers/{dataset}.json",
    log:
        "<logs>/classifier/{dataset}.log",
    benchmark:
        "<benchmarks>/classifier/{dataset}.tsv"
    wildcard_constraints:
        dataset=names(RUN.classified),
    priority: 30
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        gpu=RUN.gpus,
        device=CONFIG.device,
        # Only warned of: changing it must not train again what everything else hangs on.
        reference=lambda wildcards: RUN.reference_accuracies([wildcards.dataset])[0],
        mem_mb=RUN.memory(8000),
        runtime="4h",
    params:
        options=RUN.classifier_options,
        code=RUN.code("classifier"),
    message:
        "{wildcards.dataset}: training the classifier"
    shell:
        stage(
            "classifier",
            "--data={input.data} --output={output.classifier} --report={output.report} "
            "--dataset={wildcards.dataset} --device={resources.device} "
            "--reference={resources.reference} {params.options}",
        )
