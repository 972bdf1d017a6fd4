"""The paper as file targets: train → quantize → sample → FID/IS → downstream → plot."""

from snakemake.utils import min_version

min_version("9.14")


configfile: "config/datasets.yaml"


# A run's configuration names its run; without one on the command line, it is the paper.
if "run" not in config:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/quantize.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/classifier.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/downstream.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/plot.smk"
include: "workflow/rules/fidelity.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/sweep.smk"


rule all:
    default_target: True
    input:
        rules.collect.output,
        TARGETS["plots"],
        TARGETS["grids"],


rule datasets:
    input:
        TARGETS["datasets"],


rule models:
    input:
        TARGETS["models"],


rule quantized:
    input:
        TARGETS["quantized"],


rule samples:
    input:
        TARGETS["samples"],


rule evaluations:
    input:
        TARGETS["evaluations"],


rule benchmark:
    input:
        TARGETS["benchmarks"],


rule sweep:
    input:
        rules.collect_sweep.output,
        expand("<run>/plots/{dataset}_sweep.{format}", dataset=DATASETS, format=FORMATS),
