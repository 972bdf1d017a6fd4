"""A user's mistakes, told by Snakemake: one message, non-zero exit, nothing left behind."""

import gzip
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.model import ModelConfig
from flowquant.config.run import Run
from flowquant.models.model import build_network
from flowquant.runtime import records
from originals import PRESETS
from project import ROOT, TINY, Workflow

IDX_PRESET = {
    "source": {"kind": "idx", "folder": "tiny"},
    "image": {"channels": 1, "size": 8},
}


def outputs(workflow: Workflow) -> list[Path]:
    aside = {"published", "logs", records.NAME}
    return [
        path
        for path in (workflow.folder / "results").rglob("*")
        if path.is_file() and not aside & set(path.parts)
    ]


def fails(workflow: Workflow, *targets: str, message: str) -> str:
    done = workflow.snakemake(*targets, config=("tiny.yaml", "mistake.yaml"))
    assert done.returncode != 0
    assert message in done.stdout, done.stdout[-3000:]
    assert "Traceback (most recent call last)" not in done.stdout
    assert outputs(workflow) == []
    return done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"bist": [2]}, "configuration key `bist`: found an unknown key; expected one of"),
        ({"bits": [20]}, "configuration key `bits.0`: found 20"),
        ({"datasets": ["mars"]}, "configuration key `datasets`: found 'mars'; expected one of"),
        (
            {"presets": {"digits": {"network": {"patch": 3}}}},
            "`presets.digits.network.patch`: found 3; expected a divisor of the image size 8",
        ),
        (
            {"presets": {"digits": {"training": {"devices": 7}}}},
            "`presets.digits.training.devices`: found 7; expected a divisor of the batch",
        ),
        ({"presets": {"digits": {"checkpoint": "none.pt"}}}, "found 'none.pt', where there is no"),
        (
            {"methods": {"x": {"levels": "best"}}},
            "`methods.x.levels`: found 'best'; expected one of",
        ),
    ],
)
def test_a_wrong_configuration_stops_before_any_job(
    fresh: Workflow, content: dict[str, Any], message: str
) -> None:
    fresh.configure("mistake.yaml", content)
    text = fails(fresh, message=message)
    assert "Job stats" not in text


def test_a_truncated_idx_file(fresh: Workflow) -> None:
    folder = fresh.folder / "data/tiny"
    folder.mkdir(parents=True)
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 10, 8, 8)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(600)))
    fresh.configure("mistake.yaml", {"presets": {"digits": IDX_PRESET}})
    # The preset merges with the digits', whose source has a key of its own: take it out.
    text = fails(fresh, "datasets", message="found 600 values; expected 640 (10 × 8 × 8")
    assert "train-images-idx3-ubyte.gz" in text


def test_images_that_are_nowhere(fresh: Workflow) -> None:
    fresh.configure("mistake.yaml", {"presets": {"digits": IDX_PRESET}})
    fails(fresh, "datasets", message="found no such file, and no answer from any mirror")


@pytest.fixture
def model() -> ModelConfig:
    """What the tiny configuration's checkpoint must be."""
    return Run.read(TINY, ROOT, []).presets["digits"].model


def test_a_checkpoint_of_other_shapes(fresh: Workflow, model: ModelConfig) -> None:
    weights = build_network(model).state_dict()
    weights["out_proj.bias"] = torch.zeros(7)
    del weights["pos_emb"]
    torch.save(weights, fresh.folder / "mine.pt")
    fresh.configure("mistake.yaml", {"presets": {"digits": {"checkpoint": "mine.pt"}}})
    fails(
        fresh,
        "models",
        message="mine.pt: found missing: pos_emb; of another form: out_proj.bias, float32 [7] for ",
    )


def test_a_checkpoint_with_nan(fresh: Workflow, model: ModelConfig) -> None:
    weights = build_network(model).state_dict()
    weights["pos_emb"][0, 0, 0] = float("nan")
    torch.save(weights, fresh.folder / "mine.pt")
    fresh.configure("mistake.yaml", {"presets": {"digits": {"checkpoint": "mine.pt"}}})
    fails(fresh, "models", message="mine.pt: found NaN or infinite values in pos_emb")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"plot": {"levels_of": "no.weight"}}, "`plot.levels_of`: found 'no.weight'; expected a w"),
        (
            {"presets": {"digits": {"classifier": {"architecture": "resnet1"}}}},
            "classifier.architecture: found 'resnet1'",
        ),
        (
            {"presets": {"digits": {"classifier": {"architecture": "inception_v3"}}}},
            "found 'inception_v3', which does not take images of 8 pixels",
        ),
        (
            {"presets": {"digits": {"network": {"width": 100000, "feedforward": 4000000}}}},
            "MiB of memory for a step of 128 images",
        ),
    ],
)
def test_what_only_the_networks_can_tell(
    fresh: Workflow, content: dict[str, Any], message: str
) -> None:
    """Told by the one quick job, before any training."""
    fresh.configure("mistake.yaml", content)
    fails(fresh, "check", message=message)


def test_a_file_that_names_no_run(fresh: Workflow) -> None:
    fresh.configure("mine.yaml", {"bits": [3]})
    done = fresh.snakemake("--dry-run", config=("mine.yaml",))
    assert done.returncode != 0
    assert "`run`: found nothing in mine.yaml" in done.stdout


def test_nothing_from_a_configuration_is_run_by_a_shell(fresh: Workflow) -> None:
    """Every string that may be any text, in every section, with what a shell would run."""
    nasty = "it's $(touch PWNED) `touch PWNED` \"; touch PWNED; {x}"
    weights = fresh.folder / "in sp$(touch PWNED)ace.pt"
    weights.write_bytes(b"no checkpoint")
    content = {
        "data_root": nasty,
        "methods": {"kept": {"levels": "uniform", "keep": [nasty]}},
        "presets": {
            "digits": {"description": nasty, "classifier": {"architecture": nasty}},
            "theirs": PRESETS["tiny_images"]
            | {"source": {"kind": "images", "path": nasty, "layout": {"train": nasty}}},
            "foreign": PRESETS["tiny_idx"] | {"checkpoint": weights.name},
        },
        "datasets": ["digits", "theirs", "foreign"],
        "evaluation": {
            "extractors": ["inception-v3-compat"],
            "metrics": {"is_splits": 1, "neighbours": 1},
        },
    }
    fresh.configure("nasty.yaml", content)
    fresh.configure("levels.yaml", {"plot": {"levels_of": nasty}})
    config = ("tiny.yaml", "nasty.yaml")
    done = fresh.snakemake("--keep-going", "check", "datasets", config=config)
    assert done.returncode != 0
    assert f"classifier.architecture: found '{nasty}'" in done.stdout
    assert f"{weights.name}: found no plain weights" in done.stdout
    assert f"{nasty}: found no such" in done.stdout  # the images
    done = fresh.snakemake("check", config=("tiny.yaml", "levels.yaml"))
    assert f"`plot.levels_of`: found '{nasty}'" in done.stdout
    assert not list(fresh.folder.rglob("PWNED*"))


def test_an_unwritable_place_or_a_gpu_that_is_not_there(fresh: Workflow) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    fresh.configure("mistake.yaml", {"device": "cuda"})
    done = fresh.snakemake("models", config=("tiny.yaml", "mistake.yaml"))
    assert done.returncode != 0
    assert "found 'cuda', but PyTorch sees no GPU here" in done.stdout
    assert not (fresh.folder / "results/tiny/models/digits_model.safetensors").exists()
