"""The models that are committed draw clothes, and their cards say of them what was measured."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from flowquant.config.reading import merged, read_yaml
from flowquant.config.run import Run
from flowquant.quantization.packed_header import PACKED
from flowquant.runtime.digest import PACKAGE
from flowquant.runtime.header import read_header
from project import ROOT

RUN = ROOT / "results/h200/fmnist_frontier"


@dataclass(frozen=True)
class Model:
    """A committed model and what it is of: a variant of a configuration, refined so long."""

    name: str
    variant: str
    configuration: str
    steps: int

    @property
    def path(self) -> Path:
        return ROOT / f"models/{self.name}.safetensors"

    @property
    def card(self) -> str:
        return self.path.with_suffix(".md").read_text(encoding="utf-8")

    @property
    def shown(self) -> NDArray[np.uint8]:
        return np.asarray(Image.open(self.path.with_suffix(".png")))


MODELS = [
    Model("fmnist-2bit", "refined-2/5bit", "config.yaml", 16_000),
    Model("fmnist-1bit", "refined-1/1bit", "config_refined.yaml", 35_000),
]
of_each = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)

# Fashion-MNIST's 60,000 training images: how bright each class is on average in the 4×4 squares of
# 7×7 pixels, row by row. The nearest of these tells the class of 59 % of its test images.
MEANS = np.array(
    [
        [31, 129, 132, 38, 44, 145, 145, 50, 8, 142, 147, 11, 6, 143, 147, 11],
        [1, 122, 138, 1, 1, 124, 130, 2, 2, 103, 103, 2, 1, 88, 89, 2],
        [23, 134, 135, 27, 57, 158, 153, 66, 70, 152, 150, 79, 61, 103, 103, 66],
        [2, 110, 115, 3, 5, 125, 130, 8, 5, 135, 141, 7, 2, 128, 137, 4],
        [9, 133, 139, 12, 43, 176, 173, 53, 60, 175, 172, 71, 53, 120, 120, 60],
        [0, 2, 14, 14, 2, 25, 64, 62, 47, 77, 84, 84, 20, 32, 11, 19],
        [19, 114, 117, 23, 45, 144, 142, 53, 47, 139, 139, 55, 37, 117, 120, 43],
        [0, 0, 2, 1, 3, 43, 110, 77, 73, 120, 128, 111, 3, 6, 5, 4],
        [11, 35, 36, 15, 76, 127, 127, 93, 106, 173, 172, 123, 58, 118, 111, 62],
        [0, 5, 58, 41, 0, 25, 176, 141, 49, 128, 187, 159, 53, 88, 53, 66],
    ]
)


def commands(text: str) -> list[str]:
    """What a page has a shell sample."""
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S))
    return re.findall(r"^flowquant (sample [^#\n]*?) *(?:#.*)?$", blocks, re.M)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which the model is where it is in the project."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path


def test_the_readme_has_a_cards_command() -> None:
    (command,) = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert commands(MODELS[0].card) == [command]


@of_each
def test_the_command_draws_clothes(place: Path, model: Model) -> None:
    (command,) = commands(model.card)
    done = subprocess.run(
        [sys.executable, "-m", "flowquant", *shlex.split(command)],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    drawn, shown = np.asarray(Image.open(place / "grid.png")), model.shown
    # Ten rows of five images of 28×28 pixels, each twice as large, a line between them.
    assert drawn.shape == shown.shape == (10 * 57 + 1, 5 * 57 + 1)
    # Another machine rounds otherwise.
    assert np.abs(drawn.astype(float) - shown).mean() < 4
    look_like_clothes(drawn)


def look_like_clothes(grid: NDArray[np.uint8]) -> None:
    tiles = grid[1:, 1:].reshape(10, 57, 5, 57)[:, :56:2, :, :56:2].swapaxes(1, 2)
    # Pixels are like their neighbours, as in the data (.85); in noise they are not.
    left, right = tiles[..., :-1].ravel(), tiles[..., 1:].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.75
    # Half of them are black, as in the data (53 % below 8).
    assert 0.4 < (tiles < 8).mean() < 0.65
    bright = tiles.reshape(10, 5, 4, 7, 4, 7).mean((3, 5)).reshape(10, 5, 1, 16)
    nearest = np.square(bright - MEANS).sum(3).argmin(2)
    assert (nearest == np.arange(10)[:, None]).mean() > 0.45


@of_each
def test_what_is_no_clothes_does_not_pass(model: Model) -> None:
    shown = model.shown
    look_like_clothes(shown)
    noise = np.random.default_rng(0).integers(0, 256, shown.shape, dtype=np.uint8)
    # Of other classes than were asked for.
    for wrong in (noise, np.roll(shown, 57, axis=0)):
        with pytest.raises(AssertionError):
            look_like_clothes(wrong)


@of_each
def test_the_card_from_python(place: Path, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    monkeypatch.chdir(place)
    names: dict[str, torch.Tensor] = {}
    exec("\n".join(re.findall(r"^```python\n(.*?)^```", model.card, re.M | re.S)), names)
    images = names["images"]
    assert images.shape == (2, 1, 28, 28)
    bright = images.numpy().reshape(2, 4, 7, 4, 7).mean((2, 4)).reshape(2, 1, 16)
    assert np.square(bright - MEANS).sum(2).argmin(1).tolist() == [7, 9]


@of_each
def test_the_card_has_the_figures_of_the_run(model: Model) -> None:
    measured = (RUN / "summary.md").read_text(encoding="utf-8").splitlines()
    rows = re.findall(r"^\| fmnist .*$", model.card, re.M)
    assert len(rows) == 4
    assert set(rows) <= set(measured)
    (row,) = [row for row in rows if f"| {model.variant} |" in row]
    size = model.path.stat().st_size
    assert f"| {size:,} |" in row
    assert f"{size:,} bytes" in model.card


@of_each
def test_the_file_is_of_the_configuration_that_the_card_names(model: Model) -> None:
    assert f"](../{(RUN / model.configuration).relative_to(ROOT)})" in model.card
    given = read_yaml(RUN / model.configuration)
    run = Run.read(merged(read_yaml(ROOT / "config/datasets.yaml"), given), ROOT)
    name = model.variant.partition("/")[0]
    row, file = run.configuration.methods[name], read_header(model.path, PACKED).metadata
    assert file["model"] == asdict(run.presets["fmnist"].model)
    method = {key: getattr(row, key) for key in file["method"]}
    assert file["method"] == method | {"keep": list(method["keep"])}
    assert (file["bits"],) == row.bits
    assert row.compensate is not None
    assert row.refine is not None
    assert file["compensate"] == asdict(row.compensate)
    assert file["refine"]["steps"] == row.refine.steps == model.steps
