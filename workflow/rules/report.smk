# What `snakemake --report` shows besides figures: the page it opens on (../report/workflow.rst), and
# tables that sort and search.
TABLES = {
    "summary": "all variants",
    "comparisons": "pairs compared",
    "results": "all measurements",
}


rule report_table:
    input:
        "<run>/{table}.csv",
    output:
        report(
            "<run>/report/{table}.html",
            caption="../report/table.rst",
            category="tables",
            labels=lambda w: {"table": TABLES[w.table]},
        ),
    log:
        "<logs>/report/{table}.log",
    wildcard_constraints:
        table=names(TABLES),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        title=lambda w: f"{RUN.name}: {TABLES[w.table]}",
        code=RUN.code("report_table"),
    message:
        f"{RUN.name}: a page of {{wildcards.table}}.csv"
    shell:
        stage(
            "report_table", "--table={input} --title={params.title} --output={output}"
        )


rule report_overview:
    input:
        summary=rules.collect.output.summary,
        figures=expand(shown("{dataset}_fid"), dataset=RUN.datasets),
        samples=expand(shown("{dataset}_samples"), dataset=RUN.datasets),
    output:
        report(
            "<run>/report/overview.html",
            caption="../report/overview.rst",
            category="tables",
            labels={"table": "overview"},
        ),
    log:
        "<logs>/report/overview.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=RUN.name,
        datasets=RUN.datasets,
        # Not an input: it tells of every run of Snakemake, also of those that made nothing new.
        devices=Path(DEVICES),
        code=RUN.code("report_overview"),
    message:
        f"{RUN.name}: the page that a report opens on"
    shell:
        stage(
            "report_overview",
            "--summary={input.summary} --run={params.run} --datasets {params.datasets} "
            "--figures {input.figures} --samples {input.samples} --devices={params.devices} "
            "--output={output}",
        )


PAGES = expand(rules.report_table.output, table=TABLES) + rules.report_overview.output
