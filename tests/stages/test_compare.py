"""Variants compared by the FIDs of samples that share noise and labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.model import ImageConfig
from flowquant.evaluation.classifier import build_classifier, write_classifier
from flowquant.evaluation.features import extract, read_features
from flowquant.evaluation.frechet import Reference
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.compare import compare
from flowquant.stages.real_features import real_features
from tiny import write_tiny_dataset

LABELS = torch.arange(40) % 3


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A classifier, and what it sees in real images."""
    torch.manual_seed(0)
    image = ImageConfig(channels=1, size=8)
    architecture = ArchitectureConfig(name="resnet18", image=image, classes=3)
    weights, real = tmp_path / "classifier.safetensors", tmp_path / "real.safetensors"
    write_classifier(weights, build_classifier(architecture).eval(), architecture)
    said: dict[str, Any] = {"weights": weights, "extractor": "classifier", "device": "cpu"}
    real_features(data=write_tiny_dataset(tmp_path), output=real, neighbours=3, **said)
    return said | {"real": real, "output": tmp_path / "comparisons.csv", "resamples": 20}


def write(folder: Path, variant: str, seed: int, darker: int, labels: Tensor = LABELS) -> Path:
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (40, 1, 8, 8), generator=draws) // darker
    path = folder / f"{variant.replace('/', '_')}_{seed}.safetensors"
    write_samples(path, images.to(torch.uint8), labels, Origin("tiny", variant, seed))
    return path


def test_every_pair_has_its_difference(given: dict[str, Any], tmp_path: Path) -> None:
    variants = {"full": 1, "ot/2bit": 3, "ot/4bit": 2}
    samples = {
        (variant, seed): write(tmp_path, variant, seed, darker)
        for variant, darker in variants.items()
        for seed in (0, 1)
    }
    compare(tuple(samples.values()), **given)
    with given["output"].open() as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["variant"], row["other"]) for row in rows]
    assert pairs == [("full", "ot/4bit"), ("full", "ot/2bit"), ("ot/4bit", "ot/2bit")]
    device = torch.device("cpu")
    reference = Reference(
        read_features(given["real"], "classifier", given["weights"]).features, device
    )
    for row in rows:
        assert (row["dataset"], row["n"]) == ("tiny", "40")
        assert (row["seeds"], row["resamples"]) == ("2", "20")
        low, middle, high = (float(row[name]) for name in ("low", "difference", "high"))
        assert low < middle < high < 0
        assert float(row["fid"]) - float(row["other_fid"]) == pytest.approx(middle)
    fids = []
    for seed in (0, 1):
        draws = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (40, 1, 8, 8), generator=draws).to(torch.uint8)
        features, _ = extract(images, "classifier", given["weights"], device)
        fids.append(reference.distance(features))
    assert float(rows[0]["fid"]) == pytest.approx(sum(fids) / 2, rel=1e-2)


def test_what_does_not_belong_together_is_one_message(
    given: dict[str, Any], tmp_path: Path
) -> None:
    full = write(tmp_path, "full", 0, 1)
    with pytest.raises(UserError, match=r"ot_2bit_0.*other labels, than those before"):
        compare((full, write(tmp_path, "ot/2bit", 0, 2, LABELS.flip(0))), **given)
    with pytest.raises(UserError, match=r"no samples of full of seed 1"):
        compare((full, write(tmp_path, "ot/2bit", 1, 2)), **given)
    assert not given["output"].exists()


@pytest.mark.parametrize("variants", [(), ("full",)])
def test_one_variant_has_no_difference(
    given: dict[str, Any], tmp_path: Path, variants: tuple[str, ...]
) -> None:
    samples = tuple(write(tmp_path, variant, 0, 1) for variant in variants)
    with pytest.raises(UserError, match=f"samples of {len(variants)} variants"):
        compare(samples, **given)
    assert not given["output"].exists()
