"""Every mistake in a configuration is reported with its key, what was found and what is allowed."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.utils import format as formatted

from flowquant.config.reading import check, merged, read_yaml
from flowquant.config.run import Run
from flowquant.config.schema import json_schema, resolve
from flowquant.config.shell import START, Shell
from flowquant.runtime.errors import UserError
from project import ROOT

Content = dict[str, Any]


def load(*names: str) -> Content:
    content: Content = {}
    for name in names:
        content = merged(content, read_yaml(ROOT / "config" / f"{name}.yaml"))
    # Without YAML's anchors: what a test changes in one preset is its own.
    return json.loads(json.dumps(content))


@pytest.fixture
def config() -> Content:
    return load("datasets", "quickstart")


def set_key(config: Content, path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for parent in parents:
        if config.get(parent) is None:
            config[parent] = {}
        config = config[parent]
    config[last] = value


@pytest.mark.parametrize("run", ["config", "quickstart", "extended", "frontier"])
def test_shipped_configurations_are_valid(run: str) -> None:
    check(load("datasets", run))


def test_the_paper() -> None:
    paper = check(load("datasets", "config"))
    assert paper.datasets == ("mnist", "fmnist", "cifar10", "celeba")
    assert {name: row.levels for name, row in paper.methods.items()} == {
        "uniform": "uniform",
        "ot": "equal_mass",
    }
    for name, row in paper.methods.items():
        assert paper.widths(name) == (2, 4, 8, 16)
        assert (row.granularity, row.scope, row.least_values) == ("tensor", "all", 5)
    steps = {name: paper.presets[name].sampling.steps for name in paper.datasets}
    assert steps == {"mnist": 500, "fmnist": 500, "cifar10": 1000, "celeba": 1000}


def test_defaults_are_filled_in_and_the_input_is_left_alone(config: Content) -> None:
    before = copy.deepcopy(config)
    complete = check(config)
    assert config == before
    assert complete.seeds == (0,)
    assert complete.presets["digits"].flow.sigma == 0.5


def test_variants_are_every_width_of_every_method(config: Content) -> None:
    set_key(config, "methods/mixed", {"levels": "lloyd", "budget": [2.5, 3]})
    named = [f"{method}/{b}bit" for method in ("uniform", "ot") for b in (2, 4, 8, 16)]
    variants = [str(variant) for variant in check(config).variants]
    refined = ["refined/2bit", "refined/1bit"]
    assert variants == ["full", *named, *refined, "mixed/2.5bit", "mixed/3bit"]


def test_group_granularity_becomes_one_word(config: Content) -> None:
    set_key(config, "methods/grouped", {"levels": "uniform", "granularity": {"group": 64}})
    assert check(config).methods["grouped"].granularity == "group:64"


MISTAKES: list[tuple[str, Any, str]] = [
    ("sedes", [0], r"key `sedes`: found an unknown key.*Did you mean `seeds`\?"),
    (
        "presets/digits/network/widht",
        64,
        r"key `presets.digits.network.widht`: found an unknown key",
    ),
    ("methods/ot/level", "x", r"key `methods.ot.level`: .*Did you mean `levels`\?"),
    (
        "methods/Bad Name",
        {"levels": "uniform"},
        "found the name 'Bad Name'; expected a name of at most 100 characters",
    ),
    ("bits", [0], r"key `bits.0`: found 0; expected a whole number, ≥ 1, ≤ 16"),
    ("bits", [17], r"key `bits.0`: found 17"),
    ("bits", [2, 2], "key `bits`.*each once"),
    ("bits", "2", r"key `bits`: found '2'; expected a list"),
    ("bits", [], "key `bits`: .*at least 1"),
    ("methods/ot/bits", [32], r"key `methods.ot.bits.0`: found 32"),
    ("seeds", [-1], "key `seeds.0`: found -1"),
    ("training_seeds", [0, 0], "key `training_seeds`.*each once"),
    (
        "comparisons/pairs",
        [["ot/2bit", "lloyd/2bit"]],
        "`comparisons.pairs`: found 'lloyd/2bit'; expected one of full, uniform/2bit",
    ),
    ("comparisons/pairs", [["full", "real"]], "`comparisons.pairs`: found 'real'; expected one of"),
    (
        "comparisons/pairs",
        [["full"]],
        r"`comparisons.pairs.0.1`: found nothing; expected text of one line",
    ),
    (
        "comparisons/pairs",
        [["full", "full"]],
        r"`comparisons.pairs.0`: found \['full', 'full'\]; expected a list of 2 .*each once",
    ),
    (
        "comparisons/over",
        ["training seeds"],
        "`comparisons.over`: found 'training seeds', but 1 of `training_seeds`; expected two",
    ),
    ("comparisons/over", ["sampling seeds"], "found 'sampling seeds', but 1 of `seeds`"),
    ("comparisons/over", ["seeds"], "found 'seeds'; expected one of samples, sampling seeds"),
    ("device", "gpu", "key `device`: found 'gpu'; expected one of auto, cuda, cpu"),
    ("run", "data", "key `run`"),
    ("run", "../up", "key `run`"),
    (
        "methods/ot/levels",
        "optimal",
        "key `methods.ot.levels`: found 'optimal'; expected one of uniform",
    ),
    ("methods/ot/granularity", "column", "key `methods.ot.granularity`"),
    ("methods/ot", {"scope": "all"}, "key `methods.ot.levels`: found nothing"),
    ("methods/ot/granularity", {"grup": 64}, "granularity`: found {'grup': 64}; expected `tensor`"),
    (
        "methods/ot/granularity",
        {"group": 1},
        "`methods.ot.granularity`: found {'group': 1}; expected .*≥ 2",
    ),
    (
        "methods/ot/scope",
        "linear",
        "found 'linear'; expected one of all, matrices.*`linear` is called `matrices` now",
    ),
    ("methods/ot/budget", 17, "`methods.ot.budget.0`: found 17; expected .*≤ 16"),
    ("methods/ot/budget", [2, 0], r"`methods.ot.budget.1`: found 0; expected a number, > 0"),
    (
        "fidelity",
        {"smaples": 5},
        "`fidelity.smaples`: found an unknown key.*Did you mean `samples`",
    ),
    ("presets/digits/classifier/epohcs", 5, "`presets.digits.classifier.epohcs`: found an unknown"),
    ("methods/full", {"levels": "uniform"}, "`methods.full`"),
    (
        "methods/ot/refine",
        {"steps": 5, "assignments": "trained", "rounds": 1},
        "`methods.ot.refine.rounds`: found 1 with `assignments: trained`; expected 0",
    ),
    (
        "methods/ot/refine",
        {"steps": 5, "compile": True},
        "`methods.ot.refine.compile`: found an unkn",
    ),
    ("datasets", ["mnits"], "key `datasets`: found 'mnits'; expected one of celeba, cifar10"),
    (
        "presets/digits/network/patch",
        3,
        "`presets.digits.network.patch`: found 3; expected a divisor",
    ),
    (
        "presets/digits/network/heads",
        5,
        "`presets.digits.network.heads`: found 5; expected a divisor",
    ),
    (
        "presets/digits/image/channels",
        2,
        r"`presets.digits.image.channels`: found 2; expected one of 1, 3",
    ),
    ("presets/digits/training/epochs", "ten", "`presets.digits.training.epochs`: found 'ten'"),
    ("presets/digits/training/learning_rate", 0, "learning_rate`: found 0; expected .*> 0"),
    ("presets/digits/source/kind", "mnist", "`presets.digits.source.kind`: found 'mnist'"),
    ("presets/digits/source/folder", "x", "`presets.digits.source.folder`: found an unknown key"),
    ("presets/digits/classifier", None, "`presets.digits.classifier`: found no classifier"),
    ("presets/digits/condition/kind", "attributes", "`presets.digits.network.condition`"),
    ("evaluation/extractors", ["vgg"], "`evaluation.extractors.0`: found 'vgg'; expected one of"),
    ("evaluation/extractor", "classifier", "an unknown key.*Did you mean `extractors`?"),
    ("sweep/solvers", ["rk4"], "`sweep.solvers.0`: found 'rk4'; expected one of euler"),
    ("sweep/evaluations", [1], "`sweep.evaluations.0`: found 1; expected a whole number, ≥ 2"),
    ("sweep/tolerances", [0], "`sweep.tolerances.0`: found 0; expected a number, > 0"),
    ("sweep/variants", ["ot/3bit"], "`sweep.variants`: found 'ot/3bit'; expected one of full, un"),
    ("presets/digits/sampling/tolerance", 0, "`presets.digits.sampling.tolerance`: found 0"),
    ("plot/formats", ["bmp"], "`plot.formats.0`: found 'bmp'"),
    ("batch", 2.5, "`batch`: found 2.5; expected a whole number, ≥ 1"),
    ("batch", True, "`batch`: found True; expected a whole number"),
    ("packed", 1, "`packed`: found 1; expected true or false"),
    ("presets/digits/training/learning_rate", "1e-3", "found '1e-3'.*and 1.0e-3 for 1e-3"),
    ("presets/digits/training/warmup_epochs", 101, "found 101.0; expected at most `epochs`, 100"),
    ("presets/digits/training/validation", None, "null for the source `digits`"),
    ("presets/digits/source", None, "`presets.digits.source`: found None; expected a mapping"),
    ("presets/mine", {}, "`presets.mine.image`: found nothing"),
    ("methods", {"ot": None}, "found {'ot': None}; expected a mapping, at least 1 that is not n"),
    ("evaluation/metrics/is_splits", 1001, "found 1001 for the 1000 samples of `digits`"),
    ("evaluation/metrics/neighbours", 1000, "found 1000 for the 1000 samples of `digits`"),
    ("methods/ot/budget", 0.5, "found 0.5; expected at least 1, the smallest of `sensitivity.wi"),
    ("methods/ot/budget", [2.5, 2.50000001], "found two budgets that print as 2.5"),
    ("methods/ot", {"levels": "lloyd", "budget": 3, "bits": [2]}, "found bits beside a budget"),
    ("methods/ot", {"levels": "lloyd", "bits": [2.5]}, "ot.bits`: found 2.5; expected whole numb"),
    (
        "methods/ot",
        {"levels": {"vector": 4}, "granularity": "scaled", "bits": [0.3]},
        "ot.bits`: found 0.3; expected 4 times as many bits a whole number up to 16",
    ),
    (
        "methods/ot",
        {"levels": "lloyd", "budget": 3, "sensitivity": {"widths": [2, 2.5]}},
        "ot.sensitivity.widths`: found 2.5; expected whole numbers",
    ),
    (
        "methods/ot",
        {"levels": "lloyd", "granularity": "network", "budget": 3},
        "ot.granularity`: found network beside a budget, which gives tensors widths of their own",
    ),
    (
        "methods/ot",
        {"levels": {"vector": 4}, "scope": "matrices", "granularity": "row", "compensate": {}},
        "ot.compensate`: found `levels: vector:4` and `granularity: row`; expected vectors that",
    ),
    ("methods/ot/refine", {"steps": 5, "price": 0.1}, "price`: found 0.1 with `assignments: fixed"),
    (
        "methods/ot/refine",
        {"steps": 5, "price": 0.1, "assignments": "trained"},
        "refine.price`: found 0.1 with `coding: none`; expected an entropy coder",
    ),
    ("methods/ot/refine", {"steps": 5, "rounds": 6}, "rounds`: found 6; expected at most `steps`"),
    ("presets/digits/image/size", 16, "`presets.digits.image`: found 1 channels of 16 pixels"),
    (
        "evaluation/weights/clip-vit-b-32/urls",
        ["ftp://x"],
        "urls.0`: found 'ftp://x'; expected an ",
    ),
    ("evaluation/weights/clip-vit-b-32/sha256", "abc", "sha256`: found 'abc'; expected 64 hexade"),
    ("evaluation/weights/path", "x", "weights.path`: found the name 'path'; expected one of incep"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes_are_reported(config: Content, path: str, value: Any, message: str) -> None:
    set_key(config, path, value)
    with pytest.raises(UserError, match=message):
        check(config)


@pytest.mark.parametrize("key", ["run", "datasets", "methods", "bits", "presets"])
def test_missing_keys_are_reported(config: Content, key: str) -> None:
    del config[key]
    with pytest.raises(UserError, match=f"key `{key}`: found nothing"):
        check(config)


def rich(config: Content) -> Content:
    """With something at every key that can hold a section."""
    kinds = ("digits", "idx", "images")
    sources: list[Content] = [{}, {"folder": "x", "sha256": {}}, {"path": "x", "layout": {}}]
    digits = config["presets"]["digits"]
    presets = {
        kind: digits | {"source": {"kind": kind} | source}
        for kind, source in zip(kinds, sources, strict=True)
    }
    more: Content = {
        "methods": {"ot": {"levels": "lloyd", "budget": 2, "refine": {"steps": 1}}},
        "presets": presets | {"celeba": config["presets"]["celeba"]},
        "fidelity": {},
    }
    content: Content = json.loads(json.dumps(config | more))
    return content


def keys(
    node: Content, content: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Content]]:
    """Every key that a configuration has or may have, and its schema."""
    node = resolve(node, content)
    if path:
        yield path, node
    for name, child in node.get("properties", {}).items():
        inside = content.get(name) if isinstance(content, dict) else None
        yield from keys(child, inside, (*path, name))
    for child in node.get("patternProperties", {}).values():
        for name in content or ():
            yield from keys(child, content[name], (*path, name))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1e300, 1e300])
def test_no_number_is_beyond_all_numbers(config: Content, number: float) -> None:
    """Wherever a number can stand, in every section of the schema."""
    config = rich(config) | {"datasets": ["digits"]}
    seen = 0
    for path, node in keys(json_schema(), config):
        if path[:3] == ("presets", "celeba", "classifier"):
            continue  # a classifier for attributes is refused as such
        if node.get("type") in ("number", "integer"):
            changed = copy.deepcopy(config)
            set_key(changed, "/".join(path), number)
            with pytest.raises(UserError, match=f"`{re.escape('.'.join(path))}"):
                check(changed)
            seen += 1
    assert seen > 80


@pytest.mark.parametrize(
    "value", [None, -1, 0.5, "", "a\nb", "x", [], [None], {}, {"x": 1}, True, "\x00", [[1]]]
)
def test_whatever_stands_at_a_key_is_taken_or_refused(config: Content, value: Any) -> None:
    config = rich(config)
    check(config)
    for path, _ in keys(json_schema(), config):
        changed = copy.deepcopy(config)
        set_key(changed, "/".join(path), value)
        try:
            check(changed)
        except UserError as error:
            assert "\n" not in str(error), path


def test_whole_numbers_may_have_a_point(config: Content) -> None:
    set_key(config, "presets/digits/training/epochs", 7.0)
    epochs = check(config).presets["digits"].training.epochs
    assert (epochs, type(epochs)) == (7, int)


@pytest.mark.parametrize("name", [4, None, True, "a\n", "a" * 101, "full", "-a", ""])
def test_names_that_are_none(config: Content, name: Any) -> None:
    config["methods"][name] = {"levels": "uniform"}
    with pytest.raises(UserError, match="found the name"):
        check(config)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"test": "train"}, "layout.test`: found 'train', which is `train` too"),
        ({"test": "./train/"}, "found './train/', which is `train` too"),
        ({"train": ""}, "layout.train`: found ''; expected a folder inside"),
        ({"train": "/data"}, "layout.train`: found '/data'; expected a folder inside"),
        ({"train": "a/../../b"}, "layout.train`: found 'a/../../b'; expected a folder inside"),
        ({"test": None}, "layout.test`: found neither `test` nor `test_fraction`"),
    ],
)
def test_splits_that_are_none(config: Content, layout: Content, message: str) -> None:
    source = {"kind": "images", "path": "mine.zip", "layout": layout}
    config["presets"]["mine"] = config["presets"]["digits"] | {"source": source}
    with pytest.raises(UserError, match=re.escape(message)):
        check(config)


def test_null_takes_a_row_away(config: Content) -> None:
    assert list(check(merged(config, {"methods": {"ot": None}})).methods) == ["uniform", "refined"]
    assert "celeba" not in check(merged(config, {"presets": {"celeba": None}})).presets


def test_a_key_said_twice(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("run: a\nplot:\n  dpi: 99\n  formats: [png]\n  dpi: 150\n")
    with pytest.raises(UserError, match=r"found `dpi` in line 3 and again in line 5"):
        read_yaml(path)
    path.write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: {<<: *a, x: 3}\n")
    assert read_yaml(path)["c"] == {"x": 3}


@pytest.mark.parametrize("text", ["- a", "a: [", "", "\x00", "a: 1\n b: 2"])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine.yaml: found .*expected a YAML mapping"):
        read_yaml(path)


@pytest.mark.parametrize(
    "text", ["$(touch PWNED)", "`touch PWNED`; touch PWNED", 'it\'s "so" {x}', "a b", "-a"]
)
def test_every_text_reaches_its_stage_unharmed(config: Content, text: str, tmp_path: Path) -> None:
    """Every key that takes text, through the options of every rule and a real shell."""
    config = rich(config)
    config |= {"datasets": list(config["presets"]), "evaluation": {}}
    weights = {"path": str(tmp_path), "urls": ["https://x.org/y"], "sha256": "0" * 64}
    config["evaluation"]["weights"] = {"inception-v3-compat": weights}
    check(config)
    sent: list[str] = []
    for path, node in keys(json_schema(), config):
        listed = resolve(node.get("items", {}), None).get("type") == "string"
        if node.get("type") != "string" and not listed:
            continue
        changed = copy.deepcopy(config)
        set_key(changed, "/".join(path), [text] if listed else text)
        try:
            run = Run(check(changed), tmp_path)
        except UserError:
            continue  # no text may stand there, or none like this
        words = run.weights_options(SimpleNamespace(extractor="inception-v3-compat"))
        for name in run.datasets:
            w = SimpleNamespace(dataset=name, method="ot", variant="ot/2bit")
            preset = run.presets[name]
            words += run.source_options(w) + run.check_options(w) + run.benchmark_options(w)
            words += run.training_options(w) + run.sampling_options(w) + run.sweep_options(w)
            words += run.classifier_options(w) if preset.classifier else []
        words += run.method_options(w) + run.refine_options(w) + run.sensitivity_options(w)
        words += run.score_options(w)
        words += [str(run.configuration.data_root), str(run.configuration.plot.levels_of)]
        sent += [word for word in words if text in word]
    assert len(sent) > 20
    command = Shell(tmp_path, own_environment=True).stage("sample", "{params.words}")
    params = SimpleNamespace(words=sent)
    line = formatted(command, params=params, log="/dev/null", stepout=1)
    line = line.replace(START, "printf '%s\\0'")
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[1:-1] == sent
    assert not list(tmp_path.iterdir())


def test_brackets_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 3000)
    with pytest.raises(UserError, match=r"deep.yaml: found brackets nested too deeply"):
        read_yaml(path)
