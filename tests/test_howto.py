"""The examples of docs/howto do what they say."""

import argparse
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from flowquant.config.reading import merged, read_yaml
from flowquant.config.run import Run
from flowquant.config.sources import ImagesSource
from flowquant.data.dataset import read_dataset
from flowquant.data.sources.images import images
from flowquant.models import custom
from flowquant.models.published import read_checkpoint
from flowquant.quantization import own_levels
from flowquant.runtime import own_code
from project import ROOT

BLOCK = re.compile(r"```(?:python|yaml)\n(.*?)```", re.DOTALL)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where paths are taken from."""
    monkeypatch.chdir(tmp_path)


def examples(page: str) -> list[str]:
    """The examples of a page; those that begin with the name of a file are written to it."""
    text = (ROOT / "docs/howto" / page).read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    for block in blocks:
        if name := re.match(r"# (\w+\.(?:py|yaml))\n", block):
            Path(name[1]).write_text(block)
    return blocks


def quickstart() -> Run:
    mine = Path("my_run.yaml")
    given = merged(read_yaml(ROOT / "config/quickstart.yaml"), read_yaml(mine))
    return Run.read(given, ROOT, [mine])


def test_dataset() -> None:
    """The run itself is `tests/workflow/test_own_code.py`'s."""
    drawing, _ = examples("dataset.md")
    exec(drawing, {})
    mine = Path("my_run.yaml")
    given = merged(read_yaml(ROOT / "config/datasets.yaml"), read_yaml(mine))
    run = Run.read(given, ROOT, [mine])
    preset, written = run.presets["shapes"], Path("shapes.safetensors")
    assert isinstance(preset.source, ImagesSource)
    folder = Path(run.configuration.data_root)
    images(written, folder, preset.source, preset.image, preset.condition)
    train, test = read_dataset(written)
    assert (train.images.shape, len(test)) == ((640, 3, 16, 16), 160)


def test_levels() -> None:
    examples("levels.md")
    run = quickstart()
    assert run.functions == {"ternary": "my_levels.py:ternary"}
    own_levels.try_out(run.functions["ternary"])
    values = torch.tensor([[-3.0, 0.1, 2.9]])
    levels, indices = own_levels.own_quantizer(run.functions["ternary"])(values, 4)
    torch.testing.assert_close(levels.gather(1, indices.long()), torch.tensor([[-2.0, 0, 2]]))


def test_network(monkeypatch: pytest.MonkeyPatch) -> None:
    examples("network.md")
    run = quickstart()
    monkeypatch.setenv(own_code.ALLOWED, run.classes["digits"])
    custom.try_out(run.presets["digits"].model)


def test_checkpoint() -> None:
    *presets, snippet = examples("checkpoint.md")
    path = Path("otcfm_cifar10_weights_step_400000.pt")
    path.touch()
    run: dict[str, Any] = {"run": "a", "datasets": ["cifar10"], "bits": [2]}
    run["methods"] = {"ot": {"levels": "equal_mass"}}
    given = merged(read_yaml(ROOT / "config/datasets.yaml"), run)
    said = [
        Run.read(merged(given, yaml.safe_load(preset)), ROOT).checkpoint_options(
            SimpleNamespace(dataset="cifar10")
        )
        for preset in presets
    ]
    assert said == [[f"--checkpoint={path}"], [f"--checkpoint={path}", "--weights=net_model"]]
    weights = {"a": torch.ones(2)}
    torch.save({"model": weights, "args": argparse.Namespace(a=1)}, "checkpoint.pt")
    before = torch.serialization.get_safe_globals()
    try:
        exec(snippet, {})
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
    assert read_checkpoint(Path("checkpoint_weights.pt"))[0].keys() == weights.keys()
