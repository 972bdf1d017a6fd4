"""Distances by POT, and what `theory` makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from flowquant.config.method import LevelsName, MethodConfig
from flowquant.stages.distances import distances
from flowquant.stages.quantize import quantize
from flowquant.stages.theory import theory
from tiny import write_tiny_model


def measure(folder: Path, levels: LevelsName, bits: int) -> Path:
    name = f"{levels}/{bits}bit"
    method = MethodConfig(
        levels=levels, granularity="tensor", scope="matrices", keep=(), least_values=5
    )
    packed = folder / "packed.safetensors"
    quantize(
        model=write_tiny_model(folder),
        output=packed,
        report=folder / "r.json",
        method=method,
        dataset="tiny",
        variant=name,
        bits=bits,
    )
    output = folder / f"{levels}_{bits}.json"
    distances(
        model=folder / "model.safetensors",
        quantized=packed,
        output=output,
        dataset="tiny",
        variant=name,
    )
    return output


def test_from_distances_to_table_and_plot(tmp_path: Path) -> None:
    paths = [
        measure(tmp_path, levels, b) for levels in ("uniform", "equal_mass") for b in (2, 3, 4)
    ]
    for path in paths:
        for tensor in json.loads(path.read_text())["tensors"].values():
            # Assignments are monotone, so W₂ is the root mean squared error.
            assert tensor["w2"] == pytest.approx(tensor["mean_squared_error"] ** 0.5, rel=1e-4)
    summary = tmp_path / "summary.csv"
    rows = [
        f"tiny,{path.stem.replace('_', '/')}bit,classifier,{10 - i}" for i, path in enumerate(paths)
    ]
    rows = [row.replace("equal/mass/", "equal_mass/") for row in rows]
    # By another extractor than the first, which counts.
    rows.append("tiny,full,another,99")
    summary.write_text("\n".join(["dataset,variant,extractor,fid", *rows]) + "\n")
    data, table, figure = (tmp_path / name for name in ("t.json", "t.md", "t.png"))
    theory(
        distances=tuple(paths),
        summary=summary,
        dataset="tiny",
        data=data,
        table=table,
        outputs=(figure,),
        dpi=50,
    )
    found: dict[str, Any] = json.loads(data.read_text())
    assert set(found["rho"]["tensor, matrices"]) == {"2", "3", "4"}
    assert found["decay"]["uniform"] > 1.5
    assert -1 <= found["rank_correlation"]["unrefined"] <= 1
    assert "Rank correlation" in table.read_text()
    assert figure.stat().st_size > 1000
