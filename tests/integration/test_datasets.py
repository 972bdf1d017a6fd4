"""Every kind of dataset through the same rules: its files, an epoch of training, a few samples."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from flowquant.artifacts import read_metadata, read_tensors
from flowquant.model import ModelConfig
from image_files import encoded, write_folder, write_tar, write_zip
from project import ROOT

NETWORK = {
    "patch": 8,
    "width": 16,
    "heads": 2,
    "layers": 1,
    "feedforward": 16,
    "activation": "gelu",
    "time": "fourier",
    "condition": "linear",
}
TRAINING = {
    "epochs": 1,
    "batch": 4,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "clip": 1.0,
    "validation": 4,
    "condition_dropout": 0.1,
}


def preset(source, channels, size, count, kind="class", **sampling):
    return {
        "source": source,
        "image": {"channels": channels, "size": size},
        "condition": {"kind": kind, "count": count},
        "network": NETWORK,
        "flow": {"clock": "backward"},
        "training": TRAINING | ({"validation": None} if kind == "attributes" else {}),
        "sampling": {"steps": 2, "per_class": 1} | sampling,
    }


def write_idx(folder):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("train", "t10k"):
        for kind, shape in (("images-idx3", (12, 8, 8)), ("labels-idx1", (12,))):
            values = rng.integers(0, 10, shape, dtype=np.uint8)
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            content = gzip.compress(header + values.tobytes())
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(content)


def write_cifar10(folder):
    import pickle

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


def write_celeba(folder):
    names = [f"{i:06d}.jpg" for i in range(1, 31)]
    pictures = {f"img_align_celeba/{n}": encoded(3, (178, 218), "JPEG") for n in names}
    write_zip(folder / "img_align_celeba.zip", pictures)
    rows = "".join(f"{name} -1  1 -1\n" for name in names)
    (folder / "list_attr_celeba.txt").write_text(f"30\nBald Smiling Young \n{rows}")
    parts = "".join(f"{name} {i // 10}\n" for i, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(parts)


def write_images(path):
    write_tar(
        path,
        {
            f"{part}/{name}/{i}.png": encoded(i)
            for part in ("train", "test")
            for name in ("cat", "dog")
            for i in range(8)
        },
    )


@pytest.fixture
def workplace(tmp_path):
    """A folder to run the workflow in, with the repository's configuration at hand."""
    (tmp_path / "results").mkdir()
    for name in ("config", "results/published"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def snakemake(folder, *arguments, config=None):
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    if config is not None:
        (folder / "mine.yaml").write_text(yaml.safe_dump(config))
        command += ["--configfile", str(folder / "mine.yaml")]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def configuration(presets, **more):
    return {
        "run": "tiny",
        "device": "cpu",
        "data_root": "originals",
        "datasets": list(presets),
        "presets": presets,
        "methods": {"uniform": {"levels": "uniform"}},
        "bits": [4],
        **more,
    }


def test_every_kind_end_to_end(workplace):
    originals = workplace / "originals"
    write_idx(originals / "idx")
    write_cifar10(originals / "cifar10")
    write_celeba(originals / "celeba")
    write_images(originals / "mine.tar.xz")
    presets = {
        "tiny_idx": preset({"kind": "idx", "folder": "idx"}, 1, 8, 10),
        "tiny_cifar10": preset(
            {"kind": "cifar10", "folder": "cifar10", "sha256": None}, 3, 32, 10, guidance=2
        ),
        "tiny_celeba": preset(
            {"kind": "celeba", "folder": "celeba"}, 3, 16, 3, "attributes", condition="test"
        ),
        "tiny_images": preset({"kind": "images", "path": "mine.tar.xz"}, 3, 8, 2),
    }
    targets = [f"results/tiny/sampling/{name}/full/seed0.safetensors" for name in presets]
    done = snakemake(workplace, *targets, config=configuration(presets))
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = {}
    for name, target in zip(presets, targets, strict=True):
        tensors, _ = read_tensors(workplace / target)
        found[name] = tuple(tensors["images"].shape)
        if name == "tiny_celeba":
            assert tensors["labels"].tolist() == [[0, 1, 0]] * 10
    assert found == {
        "tiny_idx": (10, 1, 8, 8),
        "tiny_cifar10": (10, 3, 32, 32),
        "tiny_celeba": (10, 3, 16, 16),
        "tiny_images": (2, 3, 8, 8),
    }
    data = workplace / "results" / "data"
    assert read_metadata(data / "tiny_images.safetensors")["names"] == ["cat", "dog"]
    left = {path.name for path in data.iterdir()}
    assert left == {"logs", "benchmarks", *(f"{name}.safetensors" for name in presets)}
    again = snakemake(workplace, "-n", *targets, config=configuration(presets))
    assert "Nothing to be done" in again.stdout + again.stderr


def test_bad_images_end_in_one_message_and_no_output(workplace):
    write_images(workplace / "originals" / "mine.tar.xz")
    bad = {"train/cat/bad.jpg": encoded(0, (50, 50), "JPEG")[:300]}
    write_folder(workplace / "originals" / "mine", bad | {"train/dog/1.png": encoded(1)})
    write_folder(workplace / "originals" / "mine", {"test/cat/1.png": encoded(2)})
    write_folder(workplace / "originals" / "mine", {"test/dog/1.png": encoded(3)})
    presets = {"mine": preset({"kind": "images", "path": "mine"}, 3, 8, 2)}
    done = snakemake(workplace, "datasets", config=configuration(presets))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "1 of 4 images unreadable or too small: train/cat/bad.jpg (" in said
    assert "`on_bad_image: skip`" in said
    assert "Traceback" not in said
    assert [path.name for path in (workplace / "results" / "data").iterdir()] == ["logs"]


def test_import_check_says_which_checkpoints_fit(workplace):
    good = preset({"kind": "idx", "folder": "idx"}, 1, 8, 10)
    bad = good | {"condition": {"kind": "class", "count": 9}}
    parts = ("image", "condition")
    content = {part: good[part] for part in parts}
    content["network"] = NETWORK | {"family": "transformer", "dropout": 0.1}
    content["flow"] = {"clock": "backward", "sigma": 0.5}
    torch.save(ModelConfig.from_dict(content).build().state_dict(), workplace / "published.pt")
    presets = {
        "misfit": bad | {"checkpoint": "published.pt"},
        "fit": good | {"checkpoint": "published.pt"},
    }
    done = snakemake(workplace, "import_check", config=configuration(presets))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "fit: published.pt fits: " in said
    assert "of another shape: attr_emb.weight (16, 10) for (16, 9)" in said
    assert "misfit: the checkpoint does not fit" in said
    assert "Traceback" not in said
    assert not (workplace / "results" / "tiny" / "models").exists()


def test_the_papers_graph_needs_no_data(workplace):
    done = snakemake(workplace, "-n")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert [path.name for path in (workplace / "results").iterdir()] == ["published"]
