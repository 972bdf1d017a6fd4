"""A run of every stage of the workflow, on the smallest inputs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from originals import PRESETS

RUN = "results/everything"
# For as few samples as a class has.
METRICS: dict[str, Any] = {"metrics": {"is_splits": 1, "neighbours": 1, "resamples": 2}}
REFINED: dict[str, Any] = {
    "levels": "lloyd",
    "granularity": "row",
    "scope": "matrices",
    "levels_dtype": "float16",
    "float_dtype": "float16",
    "coding": "ans",
    "refine": {"steps": 20, "batch": 8},
}
# Networks of the other families, for the images of `tiny_idx`.
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {
        "family": "unet",
        "channels": 32,
        "channel_multipliers": [1, 2],
        "blocks": 1,
        "attention": [4],
        "heads": 2,
    },
    "dit": {
        "family": "dit",
        "patch": 4,
        "width": 16,
        "heads": 2,
        "layers": 1,
        "feedforward": 16,
    },
    "custom": {
        "family": "custom",
        "class": "own_net.py:Net",
        "arguments": {"classes": 11},
        "call": "t, x, labels=y",
        "null_class": 10,
    },
}
# As little work as there can be for each stage, all of them in one run.
EVERYTHING: dict[str, Any] = {
    "run": "everything",
    "device": "cpu",
    "datasets": ["tiny_idx"],
    "bits": [2],
    "methods": {
        "refined": REFINED,
        "mixed": REFINED
        | {
            "budget": 8,
            "sensitivity": {"widths": [2, 4], "images": 8},
            "compensate": {"points": 64},
            "refine": {"steps": 20, "batch": 8, "assignments": "trained"},
        },
    },
    "peers": {"fake": {"peer": "fake_peer.py", "bits": [2]}},
    "evaluation": {"extractors": ["classifier"]} | METRICS,
    "plot": {"formats": ["png"], "dpi": 40},
    "fidelity": {"samples": 2, "steps": 2},
    "theory": True,
    "packed": True,
    "benchmark": {"seconds": 0.5},
    "sweep": {"variants": ["refined/2bit"], "evaluations": [2], "tolerances": [0.1]},
    "presets": PRESETS
    | {
        "tiny_idx": PRESETS["tiny_idx"] | {"classifier": {"epochs": 1, "batch": 4}},
        "imported": PRESETS["tiny_idx"]
        | {"checkpoint": {"path": f"{RUN}/models/tiny_idx_model.safetensors"}},
        **{name: PRESETS["tiny_idx"] | {"network": own} for name, own in NETWORKS.items()},
    },
}


def others(mirror: Path) -> dict[str, Any]:
    """What changes for the stages that one dataset's run does not need."""
    weights = {
        "inception-v3-compat": {
            "urls": [mirror.as_uri()],
            "sha256": hashlib.sha256(mirror.read_bytes()).hexdigest(),
        }
    }
    return {
        "datasets": [*EVERYTHING["presets"], "digits"],
        "evaluation": {"extractors": ["inception-v3-compat"], "weights": weights} | METRICS,
    }
