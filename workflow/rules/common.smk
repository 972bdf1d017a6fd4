"""The run, and what several rules ask of it."""

import sys
from pathlib import Path

# This file's folder, also where another workflow uses this one as a module.
SOURCE = Path(str(workflow.current_basedir)).parents[1]
sys.path.insert(0, str(SOURCE / "workflow"))

from flowquant.config.session import Session

session = Session.of(workflow)  # first, for interruptions

from snakemake.exceptions import WorkflowError

from flowquant.config.gpus import share_gpus
from flowquant.config.extractors import PUBLISHED, classifies
from flowquant.config.run import Run
from flowquant.config.shell import Shell
from flowquant.runtime import own_code
from flowquant.runtime.digest import digest
from flowquant.runtime.errors import UserError

try:
    settings = workflow.config_settings
    RUN = Run.read(config, SOURCE, settings.configfiles, settings.config)
    share_gpus(workflow, RUN)
except UserError as error:
    raise WorkflowError(str(error)) from None

own_code.allow(RUN.classes.values())

ENVIRONMENT = SOURCE / "envs" / "flowquant.yaml"
PEERS_ENVIRONMENT = SOURCE / "envs" / "peers.yaml"
CONFIG = RUN.configuration
# Of the models whose seed of training is the first, which figures and sweeps show.
FIRST = RUN.trainings[0]
# What jobs note of where they compute.
DEVICES = f"results/{RUN.name}/logs/devices.jsonl"
jobs = Shell(SOURCE / "workflow", bool(workflow.deployment_settings.deployment_method))
stage = jobs.stage


onstart:
    session.start(logger, workflow, Path(DEVICES), jobs.environment)


onerror:
    session.end(log)


pathvars:
    run=f"results/{RUN.name}",
    logs=f"results/{RUN.name}/logs",
    benchmarks=f"results/{RUN.name}/benchmarks",


def names(choices):
    """A wildcard constraint that matches just these names (nothing, if there are none)."""
    return "|".join(map(re.escape, choices)) or "(?!)"


wildcard_constraints:
    dataset=names(RUN.datasets),
    training=r"(-seed[1-9][0-9]*)?",
    method=names([*RUN.methods, *RUN.peers]),
    variant=names(RUN.variants),
    # A budget of mixed precision may be a fraction.
    bits=r"[0-9]+(\.[0-9]+)?",
    seed="[0-9]+",
    extractor=names(RUN.extractors),


def of_models(paths, datasets=RUN.datasets, **others):
    """Files of every trained model of some datasets."""
    return [
        file
        for name in datasets
        for file in expand(paths, dataset=name, training=RUN.models[name], **others)
    ]


def figure(name, caption, title):
    """A figure in each format; ``snakemake --report`` shows the first under a caption."""
    first, *others = [f"<run>/plots/{name}.{format}" for format in CONFIG.plot.formats]
    shown = report(
        first,
        caption=f"../report/{caption}.rst",
        category="{dataset}",
        labels={"figure": title},
    )
    return [shown, *others]


def weights_of(wildcards):
    """The weights of a variant, full precision or quantized."""
    if wildcards.variant == "full":
        return MODEL.format(**wildcards)
    return PACKED.format(**wildcards)


def sampled_from(wildcards):
    """The weights to sample with, and the dataset if its test images say what to sample."""
    files = {"model": weights_of(wildcards)}
    if RUN.preset(wildcards).sampling.condition == "test":
        files["data"] = f"results/data/{wildcards.dataset}.safetensors"
    return files


def sampled_attributes(wildcards, input):
    """The dataset as an option, where it says what to sample."""
    return [f"--data={input.data}"] if input.get("data") else []


def hessians_option(wildcards, input):
    """The Hessians as an option, where a method compensates.

    A parameter of its own: one that is made of inputs makes no job stale.
    """
    return [f"--hessians={input.hessians}"] if input.get("hessians") else []


def to_measure(wildcards):
    """What measuring the sensitivity to a method needs: also Hessians, if it compensates."""
    files = {"model": MODEL, "data": rules.dataset.output[0]} | RUN.hessians(wildcards)
    return {name: path.format(**wildcards) for name, path in files.items()}


def to_quantize(wildcards):
    """What quantizing a variant needs: the model, and widths where they are mixed."""
    files = {"model": MODEL} | RUN.hessians(wildcards)
    if wildcards.method in RUN.mixed:
        files["allocation"] = rules.allocate.output[0]
    return {name: path.format(**wildcards) for name, path in files.items()}


def width_options(wildcards, input):
    """A variant's width, or the file with the widths of its tensors."""
    if wildcards.method in RUN.mixed:
        return [f"--allocation={input.allocation}"]
    return [f"--bits={wildcards.bits}"]
