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
# The variants that are refined.
REFINED = [str(v) for v in CONFIG.variants if v.method in RUN.refined]
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
    """A wildcard constraint that matches just these names (nothing, if there are none).

    A method is in it once, whatever its widths: constraints are read for each file of each job.
    """
    found = {}
    for method, slash, rest in (choice.rpartition("/") for choice in choices):
        found.setdefault(re.escape(method + slash), []).append(re.escape(rest))
    parts = (f"{method}(?:{'|'.join(rests)})" for method, rests in found.items())
    return "|".join(parts) or "(?!)"


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
    """A figure in each format; ``snakemake --report`` shows one under a caption.

    ``title`` may be a function of wildcards.
    """
    caption = f"../report/{caption}.rst"
    labels = (
        {"figure": title}
        if isinstance(title, str)
        else (lambda w: {"figure": title(w)})
    )
    one = report(shown(name), caption=caption, category="{dataset}", labels=labels)
    return [one if file == one else file for file in files_of(name)]


def files_of(name):
    """A figure's files, one for each format."""
    return [f"<run>/plots/{name}.{format}" for format in CONFIG.plot.formats]


def shown(name):
    """Which of a figure's files a report shows: an SVG if there is one, which is sharp at any size."""
    files = files_of(name)
    return next((file for file in files if file.endswith(".svg")), files[0])
