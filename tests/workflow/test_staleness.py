"""What makes what stale: every key, every module, copies and lost files, by dry runs."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from everything import EVERYTHING, NETWORKS, RUN
from flowquant.config.schema import json_schema, resolve
from flowquant.runtime.digest import imported_modules, module_of
from originals import NETWORK, PRESETS
from project import MODULES, ROOT, Workflow, copy_project, listed

TARGETS = ("all", "sweep", "benchmark")
OTHERS = (
    *("check", "results/data/inception-v3-compat.pth"),
    *(f"{RUN}/models/{name}_model.safetensors" for name in ("imported", *NETWORKS)),
    *(f"results/data/{name}.safetensors" for name in (*PRESETS, "digits")),
    *(f"{RUN}/sampling/{name}/full/seed0.safetensors" for name in PRESETS),
)
# Targets are no results, and stale with anything.
NO_RESULTS = {*TARGETS, "check", "models", "quantized", "scores"}

MODEL = "check_preset train benchmark_dataset"
SAMPLES = "sample sweep_variant benchmark_dataset"
FIGURES = (
    "plot_metrics plot_levels plot_samples plot_curves plot_allocation plot_fidelity plot_sweep "
    "theory"
)
REFINED, MIXED, PRESET = "methods.refined", "methods.mixed", "presets.tiny_idx"
PEER = "peers.fake"
HEX = "0" * 64


class Rows(NamedTuple):
    """Keys below ``prefix`` with what each is changed to, and the rules that it makes stale itself.

    ``rule@name`` picks the jobs of a rule with that in their files' names. What comes after those
    jobs is stale, too, as the graph of jobs has it. ``others`` is for the run of all kinds of
    datasets, as far as samples.
    """

    prefix: str
    stale: str
    changes: dict[str, Any]
    others: bool = False


MATRIX = [
    Rows("", "", {"data_root": "elsewhere", "device": "auto", "batch": 7, "packed": False}),
    Rows("", "", {"theory": False}),
    Rows(
        REFINED,
        "quantize_to_refine@refined",
        {
            "levels": "uniform",
            "levels.entropy": 0.1,
            "levels.vector": 2,
            "granularity": "tensor",
            "granularity.group": 8,
            "scope": "all",
            "keep": ["*bias"],
            "embedders": 8,
            "least_values": 6,
            "levels_dtype": "float32",
            "float_dtype": "float32",
            "coding": "none",
        },
    ),
    Rows(MIXED, "sensitivity quantize_to_refine@mixed", {"levels": "uniform"}),
    Rows(
        f"{MIXED}.compensate",
        "sensitivity quantize_to_refine@mixed",
        {"damping": 0.02, "sequential": False},
    ),
    Rows(f"{MIXED}.sensitivity", "sensitivity", {"widths": [2, 8], "images": 9}),
    Rows(
        f"{REFINED}.refine",
        "refine@refined",
        {
            "steps": 21,
            "batch": 9,
            "learning_rate": 2e-3,
            "assignments": "trained",
            "value_learning_rate": 1e-4,
            "damping": 0.002,
            "rounds": 1,
            "data": "trajectories",
            "trajectories": 9,
            "trajectory_steps": 3,
            "precision": "float32",
            "seed": 1,
        },
    ),
    Rows(f"{REFINED}.refine", "", {"devices": 2}),
    Rows(f"{MIXED}.refine", "refine@mixed", {"price": 0.1}),
    Rows(PEER, "quantize_peer", {"group": 8, "double": True, "codebook": True, "rank": 2}),
    Rows(PEER, "check_preset quantize_peer", {"peer": "hqq"}),
    Rows(
        "evaluation.metrics",
        "score",
        {
            "kid_subsets": 9,
            "kid_subset_size": 9,
            "is_splits": 2,
            "resamples": 3,
            "directions": 9,
        },
    ),
    Rows("evaluation.metrics", "real_features", {"neighbours": 2}),
    # Nothing is extracted by them here.
    Rows(
        "evaluation.weights.inception-v3-compat",
        "",
        {"path": "weights.pth", "urls": ["https://x.org/y"], "sha256": HEX},
    ),
    Rows("fidelity", "score@refined score@mixed score@fake", {"samples": 3, "steps": 3}),
    Rows(
        "comparisons",
        "compare",
        {"usual": False, "pairs": [["refined/2bit", "mixed/8bit"]], "over": ["samples"]},
    ),
    Rows("benchmark", "benchmark_dataset", {"seconds": 2}),
    Rows("sweep", "sweep_variant", {"solvers": ["heun"], "evaluations": [4], "tolerances": [0.2]}),
    Rows("plot", FIGURES, {"dpi": 41}),
    Rows("plot", "plot_samples", {"sample_columns": 3}),
    Rows("plot", "check_preset plot_levels", {"levels_of": "out_proj.weight"}),
    Rows(
        f"{PRESET}.image",
        "dataset classifier " + MODEL,
        {"channels": 3, "size": 16},
    ),
    Rows(f"{PRESET}.condition", "dataset classifier sample_real " + MODEL, {"count": 11}),
    Rows(
        f"{PRESET}.network",
        MODEL,
        {
            "<transformer>.patch": 4,
            "<transformer>.width": 32,
            "<transformer>.heads": 4,
            "<transformer>.layers": 2,
            "<transformer>.feedforward": 32,
            "<transformer>.activation": "relu",
            "<transformer>.dropout": 0.2,
            "<transformer>.time": "linear",
            "<transformer>.condition": "embedding",
        },
    ),
    Rows(f"{PRESET}.flow", MODEL, {"clock": "forward", "time_scale": 1000, "sigma": 0.4}),
    Rows(PRESET, "", {"description": "something else"}),
    Rows(
        f"{PRESET}.source",
        "dataset",
        {
            "<idx>.folder": "elsewhere",
            "<idx>.urls": ["https://x.org/y"],
            "<idx>.sha256.train_images": HEX,
            "<idx>.sha256.train_labels": HEX,
            "<idx>.sha256.test_images": HEX,
            "<idx>.sha256.test_labels": HEX,
        },
    ),
    Rows(
        f"{PRESET}.training",
        MODEL,
        {
            "epochs": 2,
            "batch": 5,
            "learning_rate": 2e-3,
            "weight_decay": 0.02,
            "schedule": "plateau",
            "warmup_epochs": 0.5,
            "halve_after": 2,
            "stop_after": 9,
            "clip": 2.0,
            "validation": 5,
            "ema": 0.9,
            "flip": True,
            "precision": "float32",
        },
    ),
    Rows(f"{PRESET}.training", MODEL + " refine", {"condition_dropout": 0.2}),
    Rows(f"{PRESET}.training", "", {"devices": 2}),
    Rows(
        f"{PRESET}.sampling",
        "sample sweep_variant sample_grids sample_real benchmark_dataset",
        {"per_class": 2},
    ),
    Rows(f"{PRESET}.sampling", SAMPLES, {"guidance": 1.5, "precision": "float32"}),
    Rows(
        f"{PRESET}.sampling",
        "sample benchmark_dataset",
        {"solver": "heun", "steps": 3, "tolerance": 0.1},
    ),
    Rows(f"{PRESET}.sampling", "", {"devices": 2}),
    Rows(
        f"{PRESET}.classifier",
        "check_preset classifier benchmark_dataset",
        {"architecture": "resnet34"},
    ),
    Rows(f"{PRESET}.classifier", "collect", {"reference_accuracy": 0.5}),
    Rows(
        f"{PRESET}.classifier",
        "classifier",
        {
            "epochs": 2,
            "batch": 5,
            "learning_rate": 3e-3,
            "weight_decay": 0.02,
            "shift": 1,
            "flip": True,
        },
    ),
    Rows(
        "evaluation.weights.inception-v3-compat",
        "extractor_weights",
        {"urls": ["https://x.org/y"], "sha256": HEX},
        True,
    ),
    Rows(
        "presets.imported",
        "check_preset@imported import_model",
        {
            "checkpoint": "weights.pth",
            "checkpoint.path": "weights.pth",
            "checkpoint.weights": "ema",
        },
        True,
    ),
    Rows(
        "presets.dit.network",
        "check_preset@dit train@dit",
        {
            "family": NETWORK | {"family": "transformer"},
        },
        True,
    ),
    Rows(
        "presets.dit.network",
        "check_preset@dit train@dit",
        {
            "<dit>.patch": 8,
            "<dit>.width": 32,
            "<dit>.heads": 4,
            "<dit>.layers": 2,
            "<dit>.feedforward": 32,
            "<dit>.dropout": 0.2,
            "<dit>.learned_sigma": False,
            "<dit>.condition": "none",
            "<dit>.null_class": False,
        },
        True,
    ),
    Rows(
        "presets.unet.network",
        "check_preset@unet train@unet",
        {
            "<unet>.channels": 64,
            "<unet>.channel_multipliers": [1, 1],
            "<unet>.blocks": 2,
            "<unet>.attention": [8],
            "<unet>.heads": 4,
            "<unet>.head_channels": 8,
            "<unet>.new_attention_order": True,
            "<unet>.scale_shift_norm": True,
            "<unet>.resample_blocks": True,
            "<unet>.dropout": 0.2,
            "<unet>.condition": "none",
        },
        True,
    ),
    Rows(
        "presets.custom.network",
        "check_preset@custom train@custom",
        {
            "<custom>.class": "own_net.py:Tall",
            "<custom>.arguments": {"width": 16},
            "<custom>.call": "t=t, x=x, labels=y",
            "<custom>.null_class": 9,
            "<custom>.middle": "out",
        },
        True,
    ),
    Rows("presets.tiny_celeba.sampling", "sample@tiny_celeba", {"condition": "zeros"}, True),
    Rows("presets.digits.source", "dataset@digits", {"<digits>.test_fraction": 0.4}, True),
    Rows("presets.digits", "dataset@digits", {"source.kind": {"kind": "idx", "folder": "x"}}, True),
    Rows(
        "presets.tiny_cifar10.source",
        "dataset@tiny_cifar10",
        {
            "<cifar10>.folder": "elsewhere",
            "<cifar10>.urls": ["https://x.org/y"],
            "<cifar10>.sha256": HEX,
        },
        True,
    ),
    Rows(
        "presets.tiny_celeba.source",
        "dataset@tiny_celeba",
        {
            "<celeba>.folder": "elsewhere",
            "<celeba>.crop": 100,
            "<celeba>.attributes": ["Bald", "Smiling", "Young"],
            "<celeba>.on_bad_image": "skip",
        },
        True,
    ),
    Rows(
        "presets.tiny_images.source",
        "dataset@tiny_images",
        {
            "<images>.path": "other.zip",
            "<images>.layout.train": "pictures",
            "<images>.layout.validation": "more",
            "<images>.layout.test": "held_out",
            "<images>.layout.test_fraction": 0.4,
            "<images>.urls": ["https://x.org/y"],
            "<images>.sha256": HEX,
            "<images>.crop": 8,
            "<images>.least_side": 9,
            "<images>.on_bad_image": "skip",
        },
        True,
    ),
]


PAGES = "report_table report_overview"
SCORED = "collect compare plot_metrics*3 theory report_table*3 report_overview"
NEW_VARIANT = f"sample sample_grids score distances plot_levels plot_samples plot_fidelity {SCORED}"
NEW_PEER = f"quantize_peer sample sample_grids score plot_samples plot_fidelity {SCORED}"
NEW_REFINED = f"{NEW_VARIANT} quantize_to_refine refine plot_curves"
OTHER_POINTS = f"{NEW_REFINED} hessians sensitivity allocate plot_allocation"
# Changes that bring other jobs, or take jobs away: all there are, several as ``rule*n``.
OTHER_JOBS: dict[str, tuple[Any, str]] = {
    # What is there of the first stays as it is; tables and what is drawn from them are new.
    "datasets": (
        ["tiny_idx", "digits"],
        "train classifier hessians sensitivity allocate quantize_to_refine*2 refine*2 "
        "quantize_peer sample*4 sample_real sample_grids real_features score*5 distances*2 "
        "collect compare plot_metrics*6 plot_levels plot_samples "
        "plot_curves plot_allocation plot_fidelity theory*2 sweep_variant collect_sweep "
        "plot_sweep*2 benchmark_dataset report_table*3 report_overview",
    ),
    f"{REFINED}.bits": ([2, 3], NEW_REFINED),
    f"{PEER}.bits": ([2, 3], NEW_PEER),
    "bits": ([2, 3], NEW_REFINED),
    f"{MIXED}.budget": (
        7.5,
        f"{NEW_REFINED} allocate plot_allocation",
    ),
    f"{MIXED}.compensate.points": (65, OTHER_POINTS),
    f"{MIXED}.compensate.source": ("trajectories", OTHER_POINTS),
    "seeds": (
        [0, 1],
        f"sample*4 sample_real sample_grids score*5 {SCORED}",
    ),
    # What there is of the first training seed stays as it is.
    "training_seeds": (
        [0, 1],
        "train hessians sensitivity allocate quantize_to_refine*2 refine*2 quantize_peer sample*4 "
        f"sample_grids score*4 {SCORED}",
    ),
    "evaluation.extractors": (
        ["inception-v3-compat", "classifier"],
        "extractor_weights real_features score*5 plot_fidelity sweep_variant collect_sweep "
        f"plot_sweep benchmark_dataset {SCORED}",
    ),
    "evaluation.floor": (False, SCORED),
    "sweep.variants": (["full", "refined/2bit"], "sweep_variant collect_sweep plot_sweep"),
    "plot.formats": (
        ["svg"],
        "plot_metrics*3 plot_levels plot_samples plot_curves plot_allocation plot_fidelity "
        "plot_sweep theory report_overview",
    ),
    "run": (
        "another",
        "check_preset train classifier hessians sensitivity allocate quantize_to_refine*2 refine*2 "
        "quantize_peer sample*4 sample_real sample_grids real_features score*5 distances*2 "
        "plot_levels plot_samples plot_curves plot_allocation plot_fidelity "
        f"{SCORED} "
        "sweep_variant collect_sweep plot_sweep benchmark_dataset",
    ),
}

# Files that a target remakes where they are lost, and by which jobs.
LOST = {
    "sampling/**/*.png": ("all", "sample_grids"),
    "plots/*_fid.png": ("all", "plot_metrics report_overview"),
    "plots/*_levels.png": ("all", "plot_levels"),
    "plots/*_levels.csv": ("all", "plot_levels"),
    "plots/*_samples.png": ("all", "plot_samples report_overview"),
    "plots/*_curves.*": ("all", "plot_curves"),
    "plots/*_allocation.png": ("all", "plot_allocation"),
    "plots/*_fidelity.png": ("all", "plot_fidelity"),
    "plots/*_theory.png": ("all", "theory"),
    "theory/*": ("all", "theory"),
    "plots/*_sweep.png": ("sweep", "plot_sweep"),
    "sweep.md": ("sweep", "collect_sweep plot_sweep"),
    "speed/*": ("benchmark", "benchmark_dataset"),
    "checks/tiny_idx.json": ("check", "check_preset"),
    "report/[!o]*.html": ("all", "report_table"),
    "report/overview.html": ("all", "report_overview"),
    "comparisons.*": ("all", "compare report_table"),
    "results.csv": ("all", f"collect compare plot_metrics theory {PAGES}"),
    "summary.md": ("all", f"collect compare plot_metrics theory {PAGES}"),
    "*_results.json": ("all", f"collect compare plot_metrics theory {PAGES}"),
    "scores/**/full/*.json": ("all", f"score collect compare plot_metrics theory {PAGES}"),
    "scores/**/real/*.json": ("all", f"score collect compare plot_metrics theory {PAGES}"),
    "scores/**/2bit/*.json": (
        "all",
        f"score collect compare plot_fidelity plot_metrics theory {PAGES}",
    ),
    # Made with weights that all else is made of: asked for by a target of their own.
    "models/tiny_idx*.json*": ("models", "train"),
    "quantized_models/*/[mr]*/*.json*": ("quantized", "refine"),
    "quantized_models/*/fake/*.json": ("quantized", "quantize_peer"),
}

# How a command is read, and what rules ask: options and dry runs say what they come to.
UNTRACKED = {
    "__main__",
    "runtime.digest",
    "runtime.interrupt",
    *(f"config.{name}" for name in ("command_line", "shell", "messages", "run")),
}
STAGE_OF = {
    "check_preset": "check",
    "dataset": "dataset idx",
    "quantize_to_refine": "quantize",
    "sweep_variant": "sweep",
    "benchmark_dataset": "benchmark",
}


class Job(NamedTuple):
    """A job of the finished run."""

    rule: str
    log: str


class Graph(NamedTuple):
    """Which files each job makes of which."""

    outputs: dict[Job, set[str]]
    inputs: dict[Job, set[str]]

    def after(self, stale: str) -> Counter[str]:
        """Jobs of each rule that are stale where those are that ``stale`` names."""
        pending = []
        for word in stale.split():
            rule, _, name = word.partition("@")
            chosen = [
                job
                for job, files in self.outputs.items()
                if job.rule == rule and any(f"/{name}" in file for file in files)
            ]
            assert chosen, word
            pending += chosen
        found: set[Job] = set()
        while pending:
            job = pending.pop()
            if job not in found:
                found.add(job)
                made = self.outputs[job]
                pending += [next for next, needed in self.inputs.items() if made & needed]
        return Counter(job.rule for job in found)


def graph(text: str) -> Graph:
    """The graph of jobs that ``--detailed-summary`` tells of."""
    found = Graph({}, {})
    for line in text[text.index("output_file\t") :].splitlines()[1:]:
        if line.count("\t") == 7:
            output, _, rule, log, inputs, *_ = line.split("\t")
            job = Job(rule, log)
            found.outputs.setdefault(job, set()).add(output)
            found.inputs[job] = set(inputs.split(","))
    return found


def keys(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every key of the schema, with ``*`` for names and ``<idx>`` for a kind of section."""
    if "oneOf" in node:
        tag, kinds = node["discriminator"]["propertyName"], node["discriminator"]["mapping"]
        yield f"{path}.{tag}".removeprefix(".")
        for kind, reference in kinds.items():
            yield from keys({"$ref": reference}, f"{path}.<{kind}>")
    elif "anyOf" in node:
        for choice in node["anyOf"]:
            if choice.get("type") != "null":
                yield from keys(choice, path)
    elif "$ref" in node:
        yield from keys(resolve(node, None), path)
    elif "properties" in node or "patternProperties" in node:
        own = node.get("properties") or {"*": next(iter(node["patternProperties"].values()))}
        for name, child in own.items():
            yield from keys(child, f"{path}.{name}")
    elif "const" not in node:  # else there is nothing to change it to
        yield path.removeprefix(".")


def nested(path: str, value: Any) -> dict[str, Any]:
    """``a.b`` and a value as a mapping in a mapping; a kind comes with what it needs."""
    if isinstance(value, dict):
        path = path.removesuffix(".kind").removesuffix(".family")
    for part in reversed([part for part in path.split(".") if not part.startswith("<")]):
        value = {part: value}
    return value


def asked(others: bool, *more: str) -> list[str]:
    """A dry run's arguments: the finished run's targets and configuration, and ``more`` of it."""
    targets = OTHERS if others else TARGETS
    return [*targets, "--configfile", "everything.yaml", *["others.yaml"] * others, *more]


def results(found: tuple[int, str]) -> dict[str, int]:
    """How many jobs of each rule a dry run lists, without targets."""
    return {rule: count for rule, count in listed(*found).items() if rule not in NO_RESULTS}


def normal(path: str) -> str:
    """A path of the matrix as `keys` has it."""
    parts = path.removeprefix(".").split(".")
    for place in range(len(parts)):
        if ".".join(parts[:place]) in ("methods", "peers", "presets", "evaluation.weights"):
            parts[place] = "*"
    return ".".join(parts)


CHANGES = [
    (row, f"{row.prefix}.{key}".removeprefix("."), value)
    for row in MATRIX
    for key, value in row.changes.items()
]


@pytest.fixture(scope="module")
def graphs(everything: Workflow) -> list[Graph]:
    """The graph of the finished run, and that of the run of all kinds of datasets."""
    requests = [(["--detailed-summary", *asked(others)], None) for others in (False, True)]
    return [graph(output) for _, output in everything.dry_runs(requests)]


@pytest.fixture(scope="module")
def dry_runs(everything: Workflow) -> dict[tuple[bool, str], tuple[int, str]]:
    """What a dry run says after each change of the matrix."""
    changes = {(row.others, path): value for row, path, value in CHANGES}
    changes |= {(False, path): value for path, (value, _) in OTHER_JOBS.items()}
    requests = []
    for index, ((others, path), value) in enumerate(changes.items()):
        everything.configure(f"change{index}.yaml", nested(path, value))
        requests.append((asked(others, f"change{index}.yaml"), None))
    return dict(zip(changes, everything.dry_runs(requests), strict=True))


def table() -> str:
    """The matrix for readers: keys, and the rules whose jobs they make stale themselves."""
    lines = ["| keys | make stale |", "|---|---|"]
    for row in MATRIX:
        prefix = normal(row.prefix)
        names = [re.sub(r"^<\w+>\.", "", key) for key in row.changes]
        kind = next((match[1] for key in row.changes if (match := re.match(r"<(\w+)>", key))), "")
        said = ", ".join(f"`{name}`" for name in names)
        where = f"`{prefix}` " * bool(prefix) + f"({kind}) " * bool(kind)
        rules = ", ".join(dict.fromkeys(word.partition("@")[0] for word in row.stale.split()))
        lines.append(f"| {where}{said} | {rules or 'nothing'} |")
    return "\n".join(lines) + "\n"


def test_the_manual_has_the_matrix(request: pytest.FixtureRequest) -> None:
    """``pytest --fix`` writes it."""
    manual = ROOT / "docs/reruns.md"
    text = manual.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- matrix -->\n")
    wanted = f"{before}<!-- matrix -->\n{table()}<!-- end -->{rest.partition('<!-- end -->')[2]}"
    if request.config.getoption("--fix"):
        manual.write_text(wanted, encoding="utf-8")
    assert manual.read_text(encoding="utf-8") == wanted


def test_the_matrix_has_every_key() -> None:
    rows = [*(path for _, path, _ in CHANGES), *OTHER_JOBS]
    # The kind of conditions follows from the source, and goes where their number goes.
    assert {normal(path) for path in rows} == set(keys(json_schema())) - {
        "presets.*.condition.kind"
    }


@pytest.mark.parametrize(
    ("row", "path"), [pytest.param(row, path, id=path) for row, path, _ in CHANGES]
)
def test_a_key_makes_stale_just_what_depends_on_it(
    graphs: list[Graph],
    dry_runs: dict[tuple[bool, str], tuple[int, str]],
    row: Rows,
    path: str,
) -> None:
    assert results(dry_runs[row.others, path]) == graphs[row.others].after(row.stale)


@pytest.mark.parametrize("path", OTHER_JOBS)
def test_a_key_brings_just_the_jobs_that_it_must(
    dry_runs: dict[tuple[bool, str], tuple[int, str]], path: str
) -> None:
    jobs = OTHER_JOBS[path][1].split()
    expected = {rule: int(count or 1) for rule, _, count in (job.partition("*") for job in jobs)}
    assert results(dry_runs[False, path]) == expected


def test_a_module_makes_stale_just_the_stages_that_use_it(
    everything: Workflow, graphs: list[Graph]
) -> None:
    """A dry run for each set of stages that have modules of their own."""
    stages = {job.rule: STAGE_OF.get(job.rule, job.rule) for job in graphs[0].outputs}
    used = {rule: imported_modules(module_of(stage)) for rule, stage in stages.items()}
    shares: dict[str, str] = {}
    for module in MODULES:
        shares.setdefault(" ".join(rule for rule in used if module in used[rule]), module)
    folder = everything.folder / "workflow/flowquant"
    requests = [
        (asked(False), folder.joinpath(*module.split(".")).with_suffix(".py"))
        for module in shares.values()
    ]
    found = everything.dry_runs(requests)
    wrong = {
        module: (results(answer), graphs[0].after(rules))
        for (rules, module), answer in zip(shares.items(), found, strict=True)
        if results(answer) != graphs[0].after(rules)
    }
    assert not wrong
    assert results(everything.dry_runs([(asked(False), None)])[0]) == {}


def test_a_digest_follows_what_a_stage_loads(everything: Workflow) -> None:
    """What jobs of the finished run had loaded as they ended, against what digests follow."""
    for stage, loaded in everything.loaded_modules().items():
        followed = imported_modules(module_of(stage))
        assert loaded - followed <= UNTRACKED, stage


def scattered(folder: Path) -> None:
    """Give all files times in no order."""
    times = random.Random(0)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            time = times.randrange(10**9, 2 * 10**9)
            os.utime(path, (time, time))


def test_copied_results_are_known_by_their_content(
    everything: Workflow, tmp_path: Path, graphs: list[Graph]
) -> None:
    """``cp -r results`` into a fresh clone elsewhere: as exact as where they were made."""
    clone = copy_project(tmp_path)
    shutil.copytree(everything.folder / "results", tmp_path / "results", dirs_exist_ok=True)
    scattered(tmp_path / "results")
    clone.configure("everything.yaml", EVERYTHING)
    clone.configure("dpi.yaml", {"plot": {"dpi": 41}})
    # One after the other: the first sets up Snakemake's own folder.
    [same] = clone.dry_runs([(asked(False), None)])
    [dpi] = clone.dry_runs([(asked(False, "dpi.yaml"), None)])
    assert results(same) == {}
    assert results(dpi) == graphs[0].after(FIGURES)
    # Other content, and a later time.
    with (tmp_path / RUN / "summary.csv").open("a", encoding="utf-8") as file:
        file.write("x")
    [other] = clone.dry_runs([(asked(False), None)])
    assert results(other) == Counter(plot_metrics=3, theory=1, report_table=1, report_overview=1)


@pytest.mark.parametrize("files", LOST)
def test_a_lost_file_is_remade(everything: Workflow, files: str) -> None:
    """By the job that makes it, and those after that job."""
    target, jobs = LOST[files]
    lost = sorted((everything.folder / RUN).glob(files))
    assert lost
    requests = [([target, "--configfile", "everything.yaml"], file) for file in lost]
    for file, found in zip(lost, everything.dry_runs(requests), strict=True):
        assert set(results(found)) == set(jobs.split()), file
