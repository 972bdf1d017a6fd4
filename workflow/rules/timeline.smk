# What the last run of Snakemake did on which device; of all that is computed this alone differs from
# run to run, so nothing else asks for it.
rule plot_timeline:
    input:
        DEVICES,
    output:
        data="<run>/timeline.csv",
        figures=[f"<run>/plots/timeline.{format}" for format in CONFIG.plot.formats],
    log:
        "<logs>/plot/timeline.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        dpi=CONFIG.plot.dpi,
        code=RUN.code("plot_timeline"),
    message:
        f"{RUN.name}: plotting the time line"
    shell:
        stage(
            "plot_timeline",
            "--devices={input} --data={output.data} --outputs {output.figures} "
            "--dpi={params.dpi}",
        )


rule timeline:
    input:
        rules.plot_timeline.output,
    message:
        f"{RUN.name}: time line done"
