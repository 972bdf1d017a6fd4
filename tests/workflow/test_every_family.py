"""Each family of networks through one run of the workflow, from its preset to the figures."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from everything import NETWORKS
from flowquant.models.family import FAMILIES
from originals import PRESETS, write_idx
from project import TINY, Workflow
from tiny import TINY_NETWORKS

METHOD: dict[str, Any] = {
    "levels": "lloyd",
    "granularity": "row",
    "scope": "matrices",
    "levels_dtype": "float16",
    "float_dtype": "float16",
}


def network(family: str) -> dict[str, Any]:
    """The tiny network of a family as YAML says it."""
    if family == "custom":
        return NETWORKS[family]
    content: dict[str, Any] = json.loads(json.dumps(asdict(TINY_NETWORKS[family])))
    return content


def test_every_family_to_the_figures(fresh: Workflow) -> None:
    write_idx(fresh.folder / "data" / "idx")
    preset = PRESETS["tiny_idx"] | {"classifier": {"epochs": 1}}
    presets = {family: preset | {"network": network(family)} for family in FAMILIES}
    content = TINY | {
        "run": "families",
        "datasets": list(presets),
        "presets": presets,
        "methods": {"lloyd": METHOD},
        "packed": True,
    }
    fresh.configure("families.yaml", content)
    run = fresh.folder / "results/families"
    figures = {
        f"results/families/plots/{family}_{name}.png"
        for family in FAMILIES
        for name in ("levels", "samples")
    }
    done = fresh.snakemake("--max-threads", "1", *sorted(figures), config=("families.yaml",))
    assert done.returncode == 0, done.stdout[-5000:]
    for family in FAMILIES:
        report = json.loads((run / f"quantized_models/{family}/lloyd/2bit.json").read_text())
        assert 2 < report["effective_bits"] < 9
        drawn = (run / f"plots/{family}_levels.csv").read_text()
        assert ",lloyd/2bit," in drawn
    for figure in figures:
        assert np.asarray(Image.open(fresh.folder / figure).convert("L")).std() > 5, figure
