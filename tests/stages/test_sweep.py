"""The sweep over solvers and evaluations: what is sampled, its table, its ranking, its plot."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.evaluation import MetricsConfig
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SamplingConfig, SweepConfig
from flowquant.data.dataset import Split, write_dataset
from flowquant.evaluation.classifier import build_classifier, write_classifier
from flowquant.models.model import build_network, write_model
from flowquant.report.caveats import MEANINGS
from flowquant.stages.collect_sweep import collect_sweep
from flowquant.stages.plot_sweep import plot_sweep
from flowquant.stages.real_features import real_features
from flowquant.stages.sample import sample
from flowquant.stages.score import score
from flowquant.stages.sweep import solver_configs, sweep

SWEEP = SweepConfig(
    solvers=("euler", "heun", "dopri5"),
    evaluations=(2, 5),
    tolerances=(1e-1, 1e-3),
    per_class=10,
    condition="zeros",
    guidance=1.0,
    precision="float32",
)


def test_what_is_compared() -> None:
    found = [(c.solver, c.steps, c.tolerance) for c in solver_configs(SWEEP)]
    assert found == [
        ("euler", 2, 1e-5),
        ("euler", 5, 1e-5),
        ("heun", 1, 1e-5),
        ("heun", 2, 1e-5),
        ("dopri5", 1, 1e-1),
        ("dopri5", 1, 1e-3),
    ]
    odd = replace(
        SWEEP, solvers=("midpoint",), evaluations=(4, 5, 6), guidance=2.0, precision="tf32"
    )
    assert [(c.steps, c.guidance, c.precision) for c in solver_configs(odd)] == [
        (2, 2.0, "tf32"),
        (3, 2.0, "tf32"),
    ]


def test_a_row_is_what_sampling_and_evaluation_give(
    tmp_path: Path, tiny_model: ModelConfig
) -> None:
    torch.manual_seed(0)
    model, weights = tmp_path / "model.safetensors", tmp_path / "classifier.safetensors"
    write_model(model, build_network(tiny_model).state_dict(), tiny_model, {})
    architecture = ArchitectureConfig(name="resnet18", image=tiny_model.image, classes=3)
    write_classifier(weights, build_classifier(architecture).eval(), architecture)
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8)
    splits = [Split(images.clone(), torch.arange(30) % 3) for _ in range(2)]
    data, real = tmp_path / "data.safetensors", tmp_path / "real.safetensors"
    write_dataset(data, splits[0], splits[1], tiny_model.image, tiny_model.condition, {})
    real_features(
        data=data, weights=weights, output=real, extractor="classifier", neighbours=3, device="cpu"
    )

    origin: dict[str, Any] = {"dataset": "squares", "variant": "full", "seed": 3}
    output = tmp_path / "sweep.json"
    sweep(
        model=model,
        real=real,
        weights=weights,
        output=output,
        **origin,
        extractor="classifier",
        settings=SWEEP,
        device="cpu",
    )
    found = json.loads(output.read_text())
    assert origin.items() <= found.items()
    assert (found["n"], found["n_real"], found["extractor"]) == (30, 30, "classifier")
    rows = found["rows"]
    assert [row["evaluations"] for row in rows[:4]] == [2, 5, 2, 4]
    assert [row["steps"] for row in rows] == [2, 5, 1, 2, None, None]
    assert [row["tolerance"] for row in rows] == [None, None, None, None, 1e-1, 1e-3]
    assert rows[4]["evaluations"] < rows[5]["evaluations"]

    samples, scores = tmp_path / "samples.safetensors", tmp_path / "scores.json"
    sampling = SamplingConfig(solver="heun", steps=2, per_class=10, precision="float32")
    sample(
        model=model,
        output=samples,
        **origin,
        sampling=sampling,
        device="cpu",
    )
    metrics = MetricsConfig(kid_subsets=1, kid_subset_size=10, is_splits=1, resamples=0)
    score(
        samples=samples,
        real=(real,),
        weights=(weights,),
        output=scores,
        extractors=("classifier",),
        metrics=metrics,
        device="cpu",
    )
    scored = json.loads(scores.read_text())
    assert rows[3]["fid"] == pytest.approx(scored["evaluation"]["classifier"]["fid"])
    assert rows[3]["evaluations"] == scored["evaluations"] == 4


# FID by variant at 10, 26 and 100 evaluations: the first two change places once.
FIDS = {"full": (30, 12, 10), "ot/8bit": (20, 14, 11), "ot/2bit": (90, 80, 70)}


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, Path]:
    """What `collect_sweep` makes of a sweep of three variants with two solvers."""
    paths = []
    for index, (variant, fids) in enumerate(FIDS.items()):
        rows: list[dict[str, Any]] = [
            {"solver": "euler", "steps": steps, "tolerance": None, "evaluations": float(steps)}
            | {"fid": float(fid), "seconds": 0.5}
            for steps, fid in zip((10, 26, 100), fids, strict=True)
        ]
        rows += [
            {"solver": "dopri5", "steps": None, "tolerance": tolerance, "evaluations": count}
            | {"fid": float(fid), "seconds": 0.5}
            for tolerance, count, fid in ((1e-4, 56.0 + index, fids[2]), (0.01, 14.4, fids[1]))
        ]
        content = {"dataset": "mnist", "variant": variant, "seed": 0, "n": 500}
        path = tmp_path / f"{index}.json"
        content |= {"n_real": 10_000, "extractor": "classifier", "features": 512}
        path.write_text(json.dumps(content | {"rows": rows}))
        paths.append(path)
    summary, table = tmp_path / "sweep.csv", tmp_path / "sweep.md"
    collect_sweep(sweeps=tuple(paths), summary=summary, table=table)
    return summary, table


def test_the_table(table: tuple[Path, Path]) -> None:
    rows = list(csv.DictReader(table[0].read_text().splitlines()))
    assert len(rows) == 3 * 5
    assert rows[0] == {
        "dataset": "mnist",
        "variant": "full",
        "solver": "euler",
        "steps": "10",
        "tolerance": "",
        "evaluations": "10.0",
        "fid": "30.0",
        "seconds": "0.5",
        "seed": "0",
        "n": "500",
        "n_real": "10000",
        "extractor": "classifier",
        "features": "512",
        "caveats": "few_images",
    }


def test_whether_the_ranking_holds(table: tuple[Path, Path]) -> None:
    text = table[1].read_text()
    assert "500 samples, seed 0, 512 features by classifier" in text
    assert MEANINGS["few_images"] in text
    assert "| evaluations | 10 | 26 | 100 |\n|:--|--:|--:|--:|\n" in text
    assert "| ot/2bit | 90.00 | 80.00 | 70.00 |" in text
    assert "| Spearman's ρ | 0.500 | 1.000 | 1.000 |" in text
    assert "| Kendall's τ | 0.333 | 1.000 | 1.000 |" in text
    # Full precision's 10 and 8 bits' 11 are 10 % apart.
    assert "| pairs in another order | 1 of 3, ≤ 10.0% apart | 0 of 3 | 0 of 3 |" in text
    # Coarse before fine, whatever their order in the file; the mean count of each variant.
    assert "| evaluations (tolerance) | 14 (0.01) | 56 to 58 (0.0001) |" in text


def test_the_plot(table: tuple[Path, Path], tmp_path: Path) -> None:
    figures = tuple(tmp_path / f"plot.{suffix}" for suffix in ("png", "svg"))
    plot_sweep(summary=table[0], dataset="mnist", outputs=figures, dpi=40)
    assert np.asarray(Image.open(figures[0]).convert("L")).std() > 5
    assert "few_images" in figures[1].read_text()
