"""The original files of each kind of dataset, a few images of each, and presets for them."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from image_files import encoded, write_tar, write_zip

Content = dict[str, Any]

NETWORK: Content = {
    "patch": 8,
    "width": 16,
    "heads": 2,
    "layers": 1,
    "feedforward": 16,
    "activation": "gelu",
    "time": "fourier",
    "condition": "linear",
}
TRAINING: Content = {
    "epochs": 1,
    "batch": 4,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "clip": 1.0,
    "validation": 4,
    "condition_dropout": 0.1,
}


def preset(
    source: Content,
    channels: int,
    size: int,
    count: int,
    kind: str = "class",
    **sampling: Any,
) -> Content:
    return {
        "source": source,
        "image": {"channels": channels, "size": size},
        "condition": {"kind": kind, "count": count},
        "network": NETWORK,
        "flow": {"clock": "backward"},
        "training": TRAINING | ({"validation": None} if kind == "attributes" else {}),
        "sampling": {"steps": 2, "per_class": 1} | sampling,
    }


def write_idx(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("train", "t10k"):
        for kind, shape in (("images-idx3", (12, 8, 8)), ("labels-idx1", (12,))):
            values = rng.integers(0, 10, shape, dtype=np.uint8)
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            content = gzip.compress(header + values.tobytes())
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(content)


def write_cifar10(folder: Path) -> None:
    files = {
        name: pickle.dumps(
            {
                b"data": np.full((4, 3072), i, np.uint8),
                b"labels": [1, 2, 3, 4],
                b"filenames": [b"x.png"] * 4,
            },
            protocol=2,
        )
        for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"])
    }
    files["batches.meta"] = pickle.dumps({b"label_names": [b"thing"] * 10}, protocol=2)
    content = {f"cifar-10-batches-py/{name}": content for name, content in files.items()}
    write_tar(folder / "cifar-10-python.tar.gz", content, "gz")


def write_celeba(folder: Path) -> None:
    names = [f"{i:06d}.jpg" for i in range(1, 31)]
    pictures = {f"img_align_celeba/{n}": encoded(3, (178, 218), "JPEG") for n in names}
    write_zip(folder / "img_align_celeba.zip", pictures)
    rows = "".join(f"{name} -1  1 -1\n" for name in names)
    (folder / "list_attr_celeba.txt").write_text(f"30\nBald Smiling Young \n{rows}")
    parts = "".join(f"{name} {i // 10}\n" for i, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(parts)


def write_images(path: Path) -> None:
    write_tar(
        path,
        {
            f"{part}/{name}/{i}.png": encoded(i)
            for part in ("train", "test")
            for name in ("cat", "dog")
            for i in range(8)
        },
    )


PRESETS: Content = {
    "tiny_idx": preset({"kind": "idx", "folder": "idx"}, 1, 8, 10),
    "tiny_cifar10": preset(
        {"kind": "cifar10", "folder": "cifar10", "sha256": None}, 3, 32, 10, guidance=2
    ),
    "tiny_celeba": preset(
        {"kind": "celeba", "folder": "celeba"}, 3, 16, 3, "attributes", condition="test"
    ),
    "tiny_images": preset({"kind": "images", "path": "mine.tar.xz"}, 3, 8, 2),
}


def write_originals(folder: Path) -> None:
    """What the presets read, in a data root."""
    write_idx(folder / "idx")
    write_cifar10(folder / "cifar10")
    write_celeba(folder / "celeba")
    write_images(folder / "mine.tar.xz")
