"""The paper as file targets: train → quantize → sample → FID/IS → downstream → plot."""

from snakemake.utils import min_version

min_version("9.14")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/classifier.smk"
include: "workflow/rules/quantize.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/plot.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/timeline.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        CHECKS,
        rules.collect.output,
        rules.compare.output,
        PLOTS,
        GRIDS,
        SCORES,
        PAGES,
    message:
        f"{RUN.name}: done"
