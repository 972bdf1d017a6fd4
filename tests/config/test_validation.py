"""Every mistake in a configuration is told with its key, what was found and what is allowed."""

import copy

import pytest
import yaml

from flowquant.config.validation import command_flags, validate
from flowquant.runtime.errors import UserError
from project import ROOT


def load(*names):
    merged = {}
    for name in names:
        merged |= yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    return merged


@pytest.fixture
def config():
    return load("datasets", "quickstart")


def set_key(config, path, value):
    *parents, last = path.split("/")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


@pytest.mark.parametrize("run", ["config", "quickstart"])
def test_shipped_configurations_are_valid(run):
    validate(load("datasets", run))


def test_the_paper(config):
    paper = validate(load("datasets", "config"))
    assert paper["datasets"] == ["mnist", "fmnist", "cifar10", "celeba"]
    assert {name: row["levels"] for name, row in paper["methods"].items()} == {
        "uniform": "uniform",
        "ot": "equal_mass",
    }
    for row in paper["methods"].values():
        assert row["bits"] == [2, 4, 8, 16]
        assert (row["granularity"], row["scope"], row["least_values"]) == ("tensor", "all", 5)
    steps = {name: paper["presets"][name]["sampling"]["steps"] for name in paper["datasets"]}
    assert steps == {"mnist": 500, "fmnist": 500, "cifar10": 1000, "celeba": 1000}


def test_defaults_are_filled_in_and_the_input_is_left_alone(config):
    before = copy.deepcopy(config)
    complete = validate(config)
    assert config == before
    assert complete["seeds"] == [0]
    assert complete["presets"]["digits"]["flow"] == {"clock": "forward", "sigma": 0.5}


def test_a_sweep_is_of_all_variants_unless_it_names_some(config):
    named = {"full", *(f"{method}/{b}bit" for method in ("uniform", "ot") for b in (2, 4, 8, 16))}
    assert set(validate(config)["sweep"]["variants"]) == named
    set_key(config, "sweep/variants", ["full", "ot/2bit"])
    assert validate(config)["sweep"]["variants"] == ["full", "ot/2bit"]


def test_group_granularity_becomes_one_word(config):
    set_key(config, "methods/grouped", {"levels": "uniform", "granularity": {"group": 64}})
    assert validate(config)["methods"]["grouped"]["granularity"] == "group:64"


MISTAKES = [
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
        "found an impossible name; expected a name matching",
    ),
    ("bits", [0], r"key `bits.0`: found 0; expected Bits of an index, integer, ≥ 1, ≤ 16"),
    ("bits", [17], r"key `bits.0`: found 17"),
    ("bits", [2, 2], "key `bits`.*each once"),
    ("bits", "2", r"key `bits`: found '2'; expected .*array"),
    ("bits", [], "key `bits`: .*at least 1"),
    ("methods/ot/bits", [32], r"key `methods.ot.bits.0`: found 32"),
    ("seeds", [-1], "key `seeds.0`: found -1"),
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
    ("methods/ot/granularity", {"grup": 64}, "`methods.ot.granularity.grup`: found an unknown key"),
    (
        "methods/ot/granularity",
        {"group": 1},
        "`methods.ot.granularity.group`: found 1; expected .*≥ 2",
    ),
    ("methods/ot/budget", 17, "`methods.ot.budget`: found 17; expected .*≤ 16"),
    ("methods/ot/budget", [2, 0], r"`methods.ot.budget.1`: found 0; expected number, > 0"),
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
    ("evaluation/extractor", "vgg", "`evaluation.extractor`: found 'vgg'; expected one of"),
    ("sweep/solvers", ["rk4"], "`sweep.solvers.0`: found 'rk4'; expected one of euler"),
    ("sweep/evaluations", [1], "`sweep.evaluations.0`: found 1; expected Evaluations.*≥ 2"),
    ("sweep/tolerances", [0], "`sweep.tolerances.0`: found 0; expected Tolerance.*> 0"),
    ("sweep/variants", ["ot/3bit"], "`sweep.variants`: found 'ot/3bit'; expected one of full, un"),
    ("presets/digits/sampling/tolerance", 0, "`presets.digits.sampling.tolerance`: found 0"),
    ("plot/formats", ["bmp"], "`plot.formats.0`: found 'bmp'"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes_are_told(config, path, value, message):
    set_key(config, path, value)
    with pytest.raises(UserError, match=message):
        validate(config)


@pytest.mark.parametrize("key", ["run", "datasets", "methods", "bits", "presets"])
def test_missing_keys_are_told(config, key):
    del config[key]
    with pytest.raises(UserError, match=f"key `{key}`: found nothing"):
        validate(config)


def test_command_flags_nest_and_quote():
    flags = command_flags({"a": {"b_c": 1, "d": None}, "e": ["x y", 2], "f": True, "g": "it's"})
    assert flags == "--a.b-c 1 --a.d None --e 'x y' 2 --f True --g 'it'\"'\"'s'"
