"""Configuration, names and paths that the rules share."""

import shlex
import sys
from pathlib import Path

PACKAGE_ROOT = Path(workflow.basedir) / "workflow"
sys.path.insert(0, str(PACKAGE_ROOT))

from snakemake.exceptions import WorkflowError

from flowquant.config.validation import command_flags, validate, variants_of
from flowquant.runtime.digest import digest
from flowquant.runtime.errors import UserError

try:
    config = validate(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

ENVIRONMENT = PACKAGE_ROOT.parent / "envs" / "flowquant.yaml"
GPU = 0 if config["device"] == "cpu" else 1

# Stages run as modules of the package, by the interpreter that runs Snakemake unless Snakemake
# makes environments for them.
INTERPRETER = (
    ""
    if workflow.deployment_settings.deployment_method
    else f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
)
PYTHONPATH = f"{shlex.quote(str(PACKAGE_ROOT))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}"
# A cluster that ends a job tells all its processes (SIGTERM): the shell waits for the stage, which
# may have a state to keep, and `tee` for what the stage says; without `tee`, saying it kills it.
LAST_WORDS = """trap : TERM; tee() {{ ( trap "" TERM; exec tee "$@" ); }}; """
# A prefix replaces Snakemake's own, which makes a failure in a pipeline the pipeline's.
shell.prefix(
    f"set -euo pipefail; {LAST_WORDS}{INTERPRETER}export PYTHONPATH={PYTHONPATH}; "
)


pathvars:
    run=f"results/{config['run']}",
    logs=f"results/{config['run']}/logs",
    benchmarks=f"results/{config['run']}/benchmarks",


DATASETS = config["datasets"]
PRESETS = {name: config["presets"][name] for name in DATASETS}
METHODS = config["methods"]
REFINED = [name for name, row in METHODS.items() if row["refine"]]
MIXED = [name for name, row in METHODS.items() if row["budget"]]
VARIANTS = variants_of(METHODS)
FORMATS = config["plot"]["formats"]
CLASSIFIED = [name for name, preset in PRESETS.items() if preset["classifier"]]
IMPORTED = [name for name, preset in PRESETS.items() if preset["checkpoint"]]
EXTRACTOR = config["evaluation"]["extractor"]
METRICS = config["evaluation"]["metrics"]
INCEPTION = (
    config["evaluation"]["weights"]["path"] or "results/data/inception-v3-compat.pth"
)


def names(choices):
    """A wildcard constraint that matches just these names (nothing, if there are none)."""
    return "|".join(map(re.escape, choices)) or "(?!)"


wildcard_constraints:
    dataset=names(DATASETS),
    method=names(METHODS),
    variant=names(VARIANTS),
    # A budget of mixed precision may be a fraction.
    bits=r"[0-9]+(\.[0-9]+)?",
    seed="[0-9]+",


def figure(name, caption, title):
    """A figure in each format; ``snakemake --report`` shows the first under a caption."""
    first, *others = [f"<run>/plots/{name}.{format}" for format in FORMATS]
    shown = report(
        first,
        caption=f"../report/{caption}.rst",
        category="{dataset}",
        labels={"figure": title},
    )
    return [shown, *others]


def preset(wildcards):
    """The preset of the wildcards' dataset."""
    return PRESETS[wildcards.dataset]


def flags(*parts):
    """A params function: the preset's named parts as command-line options of a stage.

    Without the number of devices, which says where and how to compute, not what.
    """
    return lambda wildcards: command_flags(
        {
            part: {k: v for k, v in preset(wildcards)[part].items() if k != "devices"}
            for part in parts
        }
    )


def per_device(part, amount=1):
    """A resources function: so much for each device that shares ``training`` or ``sampling``."""
    return lambda wildcards: amount * preset(wildcards)[part]["devices"]


def model_options(preset):
    """What a preset's model is, as options: everything its weights need to become a flow."""
    parts = ("image", "condition", "network", "flow")
    return command_flags({"model": {part: preset[part] for part in parts}})


def model_flags(wildcards):
    """What the model of the wildcards' dataset is, as options."""
    return model_options(preset(wildcards))


def import_checks():
    """Shell lines that check each configured checkpoint and note whether one does not fit."""
    lines = [
        f"python -m flowquant import_check --dataset {name} --checkpoint "
        f"{shlex.quote(PRESETS[name]['checkpoint'])} {model_options(PRESETS[name])} "
        f"|| {{ echo '{name}: the checkpoint does not fit, see above'; fine=false; }}"
        for name in IMPORTED
    ]
    nothing = "echo 'no preset among `datasets` names a `checkpoint`: nothing to check'"
    return "\n".join(lines) or nothing


def source_flags(wildcards):
    """Where images come from and what they must be, as options of the source's module."""
    source = {
        key: value
        for key, value in preset(wildcards)["source"].items()
        if key != "kind"
    }
    return command_flags(
        source | {part: preset(wildcards)[part] for part in ("image", "condition")}
    )


METHOD_KEYS = (
    "levels",
    "granularity",
    "scope",
    "keep",
    "least_values",
    "levels_dtype",
    "float_dtype",
)


def method_flags(wildcards):
    """What a method does to a tensor, as options; its widths are wildcards of their own."""
    row = METHODS[wildcards.method]
    return command_flags({"method": {key: row[key] for key in METHOD_KEYS}})


def to_quantize(wildcards):
    """What quantizing a variant needs: the model, and widths where they are mixed."""
    files = {"model": f"<run>/models/{wildcards.dataset}_model.safetensors"}
    if wildcards.method in MIXED:
        files["allocation"] = (
            "<run>/allocations/{dataset}/{method}/{bits}bit.json".format(**wildcards)
        )
    return files


def width_flags(wildcards, input):
    """A variant's width, or the file with the widths of its tensors."""
    if wildcards.method in MIXED:
        return f"--allocation {shlex.quote(input.allocation)}"
    return f"--bits {wildcards.bits}"


def variant_file(wildcards):
    """The weights of a variant, full precision or quantized."""
    if wildcards.variant == "full":
        return f"<run>/models/{wildcards.dataset}_model.safetensors"
    return f"<run>/quantized_models/{wildcards.dataset}/{wildcards.variant}.safetensors"


def sampled_from(wildcards):
    """The weights to sample with, and the dataset if its test images say what to sample."""
    files = {"model": variant_file(wildcards)}
    if preset(wildcards)["sampling"]["condition"] == "test":
        files["data"] = f"results/data/{wildcards.dataset}.safetensors"
    return files


def extractor_weights(wildcards):
    """The weights of the feature extractor."""
    if EXTRACTOR == "classifier":
        return f"<run>/classifiers/{wildcards.dataset}.safetensors"
    return INCEPTION


def samples_per_seed(wildcards):
    """How many images each variant samples."""
    condition, per_class = (
        preset(wildcards)["condition"],
        preset(wildcards)["sampling"]["per_class"],
    )
    return per_class * (10 if condition["kind"] == "attributes" else condition["count"])


def benchmark_sizes(wildcards):
    """How much a benchmark samples, as options: what each variant samples of one seed."""
    sampling = preset(wildcards)["sampling"]
    sizes = {key: sampling[key] for key in ("steps", "precision")}
    return command_flags({"sizes": sizes | {"images": samples_per_seed(wildcards)}})


def benchmark_extractor(wildcards):
    """What a benchmark looks at images with; weights count if they are at hand, as no input."""
    return command_flags(
        {
            "extractor": EXTRACTOR,
            "weights": INCEPTION,
            "architecture": (preset(wildcards)["classifier"] or {}).get(
                "architecture", "resnet18"
            ),
        }
    )


def sweep_flags(wildcards):
    """What a sweep compares, and the part of the preset's sampling that it keeps, as options."""
    compared = ("solvers", "evaluations", "tolerances")
    kept = ("per_class", "condition", "guidance", "precision")
    sampling = preset(wildcards)["sampling"]
    return command_flags(
        {
            "sweep": {key: config["sweep"][key] for key in compared}
            | {key: sampling[key] for key in kept}
        }
    )


ALLOCATED = [
    f"{name}_{width}bit" for name in MIXED for width in METHODS[name]["widths"]
]
FLOOR = ["real"] if config["evaluation"]["floor"] else []
QUANTIZED = [variant for variant in VARIANTS if variant != "full"]
TARGETS = {
    "datasets": expand("results/data/{dataset}.safetensors", dataset=DATASETS),
    "models": expand("<run>/models/{dataset}_model.safetensors", dataset=DATASETS),
    "quantized": expand(
        "<run>/quantized_models/{dataset}/{variant}.safetensors",
        dataset=DATASETS,
        variant=QUANTIZED,
    ),
    "samples": expand(
        "<run>/sampling/{dataset}/{variant}/seed{seed}.safetensors",
        dataset=DATASETS,
        variant=VARIANTS,
        seed=config["seeds"],
    ),
    "grids": expand(
        "<run>/sampling/{dataset}/{variant}/seed{seed}.png",
        dataset=DATASETS,
        variant=VARIANTS,
        seed=config["seeds"],
    ),
    "evaluations": expand(
        "<run>/evaluation/{dataset}/{variant}/seed{seed}.json",
        dataset=DATASETS,
        variant=FLOOR + VARIANTS,
        seed=config["seeds"],
    ),
    "downstreams": expand(
        "<run>/downstream/{dataset}/{variant}/seed{seed}.json",
        dataset=CLASSIFIED,
        variant=VARIANTS,
        seed=config["seeds"],
    ),
    "fidelities": expand(
        "<run>/fidelity/{dataset}/{variant}/seed{seed}.json",
        dataset=DATASETS if config["fidelity"] is not None else [],
        variant=QUANTIZED,
        seed=config["seeds"],
    ),
    "benchmarks": expand(
        "<run>/speed/{dataset}.{format}", dataset=DATASETS, format=["json", "md"]
    ),
    "sweeps": expand(
        "<run>/sweep/{dataset}/{variant}.json",
        dataset=DATASETS,
        variant=config["sweep"]["variants"],
    ),
    "plots": expand(
        "<run>/plots/{figure}.{format}",
        figure=expand(
            "{dataset}_{kind}",
            dataset=DATASETS,
            kind=["fid", "is", "samples", "levels"]
            + (["fidelity"] if config["fidelity"] is not None else [])
            + (["theory"] if config["theory"] else []),
        )
        + expand("{dataset}_{variant}_allocation", dataset=DATASETS, variant=ALLOCATED)
        + expand("{dataset}_accuracy", dataset=CLASSIFIED),
        format=config["plot"]["formats"],
    ),
}
