"""What presets may say, and what follows from it."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from flowquant.config.model import ModelConfig
from flowquant.config.reading import check, merged, read_yaml
from flowquant.config.run import Run
from flowquant.runtime.errors import UserError
from project import ROOT


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


def test_configurations_survive_the_file(tiny_model: ModelConfig) -> None:
    assert ModelConfig.from_dict(asdict(tiny_model)) == tiny_model
