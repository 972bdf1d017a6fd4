"""What presets may say, and what follows from it."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from flowquant.config.model import ModelConfig
from flowquant.config.network import Network
from flowquant.config.reading import check, merged, read_yaml
from flowquant.config.run import Run
from flowquant.config.schema import json_schema
from flowquant.runtime.errors import UserError
from project import ROOT
from tiny import TINY_MODEL, TINY_NETWORKS


def configuration() -> dict[str, Any]:
    datasets, paper = (read_yaml(ROOT / f"config/{name}.yaml") for name in ("datasets", "config"))
    return merged(datasets, paper)


@pytest.mark.parametrize(
    ("preset", "change", "key"),
    [
        ("mnist", {"sampling": {"guidance": 2}}, "sampling.guidance"),
        ("mnist", {"sampling": {"condition": "test"}}, "sampling.condition"),
        ("cifar10_jpeg", {"source": {"layout": {"test": None}}}, "source.layout.test"),
    ],
)
def test_impossible_settings(preset: str, change: dict[str, Any], key: str) -> None:
    config = configuration() | {"datasets": [preset]}
    for part, values in change.items():
        config["presets"][preset][part] = config["presets"][preset][part] | values
    with pytest.raises(UserError, match=f"`presets.{preset}.{key}`"):
        check(config)


def test_smallest_image_defaults_to_the_patch() -> None:
    names = {"cifar10_jpeg": 4, "imagenet64": 8}
    run = Run.read(configuration() | {"datasets": list(names)}, ROOT, [])
    for name, patch in names.items():
        words = run.source_options(SimpleNamespace(dataset=name))
        assert f"--source.least-side={patch}" in words


@pytest.mark.parametrize("network", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
def test_configurations_survive_the_file(network: Network) -> None:
    model = replace(TINY_MODEL, network=network)
    assert ModelConfig.from_dict(asdict(model)) == model
    assert ModelConfig.from_dict(json.loads(json.dumps(asdict(model)))) == model


def test_what_files_said_before_there_were_families_reads_the_same() -> None:
    content = asdict(TINY_MODEL)
    del content["network"]["family"], content["flow"]["time_scale"]
    assert ModelConfig.from_dict(content) == TINY_MODEL


UNET = {"family": "unet", "channels": 64, "channel_multipliers": [1, 2], "blocks": 1}
DIT = {"family": "dit", "patch": 4, "width": 48, "heads": 3, "layers": 2, "feedforward": 64}


@pytest.mark.parametrize(
    ("network", "rest", "message"),
    [
        ({"family": "gan"}, {}, "network.family`: found 'gan'; expected one of custom, dit"),
        (
            UNET | {"width": 3},
            {},
            "network.width`: found an unknown key; expected one of attention",
        ),
        (UNET | {"channels": 48}, {}, "network.channels`: found 48"),
        (UNET | {"channel_multipliers": []}, {}, r"network.channel_multipliers`: found \[\]"),
        (UNET | {"channel_multipliers": [1] * 4}, {}, "network.channel_multipliers`: found 4 lev"),
        (UNET | {"attention": [15]}, {}, "network.attention`: found 15; expected .*: 28, 14"),
        (UNET | {"heads": 3}, {}, "network.heads`: found 3; expected a divisor of the 128 chan"),
        (UNET | {"attention": [28], "head_channels": 128}, {}, "network.head_channels`: found 128"),
        (DIT | {"patch": 5}, {}, "network.patch`: found 5; expected a divisor of the image size"),
        (DIT | {"heads": 5}, {}, "network.heads`: found 5; expected a divisor of the width 48"),
        (DIT | {"width": 18}, {}, "network.width`: found 18"),
        (UNET | {"condition": "none"}, {}, "classifier`: found a classifier for a network that"),
        (
            DIT | {"condition": "none"},
            {"classifier": None, "sampling": {"guidance": 2, "steps": 3}},
            "sampling.guidance`: found 2 for a network that sees no",
        ),
        (
            UNET,
            {"condition": {"kind": "attributes", "count": 10}, "classifier": None},
            "network.condition`: found 'embedding' .*expected 'none', since",
        ),
    ],
)
def test_impossible_networks(network: dict[str, Any], rest: dict[str, Any], message: str) -> None:
    config = configuration() | {"datasets": ["mnist"]}
    config["presets"]["mnist"] |= {"network": network} | rest
    with pytest.raises(UserError, match=f"`presets.mnist.{message}"):
        check(config)


def test_another_family_replaces_the_presets_network() -> None:
    def network(change: dict[str, Any]) -> Any:
        over = {"presets": {"mnist": {"network": change}}}
        return check(merged(configuration(), over)).presets["mnist"].network

    assert network(UNET).channels == 64
    assert (network({"width": 96}).width, network({"width": 96}).heads) == (96, 12)
    assert network({"family": "transformer", "width": 96}).heads == 12


@pytest.mark.parametrize("network", [UNET, DIT, UNET | {"attention": [14], "head_channels": 32}])
def test_other_families_are_presets_like_any(network: dict[str, Any]) -> None:
    config = configuration() | {"datasets": ["mnist"]}
    config["presets"]["mnist"] |= {"network": network}
    run, w = Run(check(config), ROOT), SimpleNamespace(dataset="mnist")
    assert f"model.network:{network['family']}-config" in run.model_options(w)
    validator = jsonschema.Draft202012Validator(json_schema())
    assert not list(validator.iter_errors(config))
    config["presets"]["mnist"]["network"] = network | {"wings": 2}
    assert list(validator.iter_errors(config))
