"""Every kind of dataset through the same rules: its files, an epoch of training, a few samples."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from everything import NETWORKS
from flowquant.config.model import ModelConfig
from flowquant.models.model import build_network
from flowquant.runtime.tensors import read_metadata, read_tensors
from image_files import encoded, write_folder
from originals import NETWORK, PRESETS, preset, write_images
from project import ROOT, Done, Workflow


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder to run the workflow in, elsewhere than it lies."""
    (tmp_path / "results").mkdir()
    return tmp_path


def snakemake(folder: Path, *arguments: str, config: dict[str, Any] | None = None) -> Done:
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


def configuration(presets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "run": "tiny",
        "device": "cpu",
        "data_root": "originals",
        "datasets": list(presets),
        "presets": presets,
        "methods": {"uniform": {"levels": "uniform"}},
        "bits": [4],
        "evaluation": {"metrics": {"is_splits": 1, "neighbours": 1}},
        **more,
    }


def test_every_kind_end_to_end(everything: Workflow) -> None:
    run, found = everything.folder / "results/everything", {}
    targets = [f"results/everything/sampling/{name}/full/seed0.safetensors" for name in PRESETS]
    for name in PRESETS:
        tensors, _ = read_tensors(run / f"sampling/{name}/full/seed0.safetensors")
        found[name] = tuple(tensors["images"].shape)
        if name == "tiny_celeba":
            assert tensors["labels"].tolist() == [[0, 1, 0]] * 10
    assert found == {
        "tiny_idx": (10, 1, 8, 8),
        "tiny_cifar10": (10, 3, 32, 32),
        "tiny_celeba": (10, 3, 16, 16),
        "tiny_images": (2, 3, 8, 8),
    }
    data = everything.folder / "results/data"
    assert read_metadata(data / "tiny_images.safetensors")["names"] == ["cat", "dog"]
    made = {f"{name}.safetensors" for name in (*PRESETS, *NETWORKS, "digits")}
    left = {path.name for path in data.iterdir()}
    weights = {"inception-v3-compat.pth", "efficientnet-lite0.pth"}
    assert left == {"logs", "benchmarks", *weights, *made}
    again = everything.snakemake("-n", *targets, config=("everything.yaml", "others.yaml"))
    assert "Nothing to be done" in again.stdout


def test_bad_images_end_in_one_message_and_no_output(workplace: Path) -> None:
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
    left = {path.name for path in (workplace / "results" / "data").iterdir()}
    assert left == {"logs", "benchmarks"}


def test_check_says_which_checkpoints_fit(workplace: Path) -> None:
    good = preset({"kind": "idx", "folder": "idx"}, 1, 8, 10)
    bad = good | {"condition": {"kind": "class", "count": 9}}
    parts = ("image", "condition")
    content = {part: good[part] for part in parts}
    content["network"] = NETWORK | {"family": "transformer", "dropout": 0.1}
    content["flow"] = {"clock": "backward", "sigma": 0.5}
    torch.save(
        build_network(ModelConfig.from_dict(content)).state_dict(), workplace / "published.pt"
    )
    presets = {
        "misfit": bad | {"checkpoint": "published.pt"},
        "fit": good | {"checkpoint": "published.pt"},
    }
    done = snakemake(workplace, "check", "--keep-going", config=configuration(presets))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "of another form: attr_emb.weight, float32 [16, 10] for " in said
    assert "Traceback" not in said
    assert [path.name for path in (workplace / "results/tiny/checks").iterdir()] == ["fit.json"]
    assert not (workplace / "results" / "tiny" / "models").exists()


def test_the_papers_graph_needs_no_data(workplace: Path) -> None:
    done = snakemake(workplace, "-n")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert not [path for path in (workplace / "results").rglob("*") if path.is_file()]
