"""The real workflow on a tiny configuration: all is made, and stale means stale."""

import csv
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from flowquant.quantization.codebook import expand_all
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.tensors import read_metadata
from flowquant.sampling.samples import read_samples
from project import Workflow

RUN = "results/tiny"


def test_everything_is_made(finished: Workflow) -> None:
    run = finished.folder / RUN
    for variant in ("full", "uniform/2bit", "ot/2bit"):
        images, labels, origin = read_samples(run / f"sampling/digits/{variant}/seed0.safetensors")
        assert images.shape == (100, 1, 8, 8)
        assert labels.bincount().tolist() == [10] * 10
        assert origin.variant == variant
        scores = json.loads((run / f"scores/digits/{variant}/seed0.json").read_text())
        assert scores["n"] == 100
        assert set(scores["evaluation"]) == {"classifier"}
        assert "downstream" in scores
        assert "fidelity" not in scores
    for name in ("fid", "fid_bits", "is", "accuracy", "samples", "levels", "curves"):
        assert (run / f"plots/digits_{name.removesuffix('_bits')}.csv").exists()
        pixels = np.asarray(Image.open(run / f"plots/digits_{name}.png").convert("L"))
        assert pixels.std() > 5, name
    results = json.loads((run / "samples_evaluation_results.json").read_text())
    assert set(results["digits"]) == {"real", "full", "uniform", "ot"}
    assert set(results["digits"]["ot"]["ot_2bit"]) >= {"fid", "is_mean", "is_std", "kid_mean", "n"}
    curve = (run / "models/digits_training.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in curve] == [1, 2]


def test_report_shows_figures_under_captions(finished: Workflow) -> None:
    done = finished.snakemake("--report", "report.zip")
    assert done.returncode == 0, done.stdout[-3000:]
    with zipfile.ZipFile(finished.folder / "report.zip") as archive:
        shown = {name.rpartition("/")[2] for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    metrics = ("fid", "is", "accuracy")
    names = [*metrics, *(f"{name}_bits" for name in metrics), "samples", "levels", "curves"]
    tables = {"summary.csv", "summary.html", "comparisons.html", "results.html", "overview.html"}
    assert shown == {f"digits_{name}.png" for name in names} | tables | {"report.html"}
    assert "The samples of digits over what the weights take" in page.replace("\\n", " ")
    assert "few_images" in page
    assert "seeds: 0. FID" in page.replace("\\n", " ")


def test_quantized_files_are_packed(finished: Workflow) -> None:
    run = finished.folder / RUN
    parameters = json.loads((run / "models/digits_model.json").read_text())["parameters"]
    report = json.loads((run / "quantized_models/digits/ot/2bit.json").read_text())
    path = run / "quantized_models/digits/ot/2bit.safetensors"
    content = path.read_bytes()
    # A tiny network's file is mostly names and provenance: what counts is what follows the header.
    stored = len(content) - 8 - int.from_bytes(content[:8], "little")
    assert report["bytes"] == len(content)
    assert stored * 8 / parameters == pytest.approx(report["effective_bits"], rel=0.02)
    assert 2 < report["effective_bits"] < 4
    quantized, metadata = read_quantized(path)
    assert metadata["method"]["levels"] == "equal_mass"
    assert metadata["source_sha256"]
    for weights in expand_all(
        {k: v for k, v in quantized.items() if k.endswith("weight")}
    ).values():
        assert len(weights.unique()) <= 4


def test_variants_start_from_the_same_noise_and_labels(finished: Workflow) -> None:
    folder = finished.folder / RUN / "sampling/digits"
    labels = [read_samples(folder / v / "seed0.safetensors")[1] for v in ("full", "ot/2bit")]
    assert labels[0].equal(labels[1])


def test_the_table_says_how_it_was_made(finished: Workflow) -> None:
    with (finished.folder / RUN / "summary.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["real", "full", "ot/2bit", "uniform/2bit"]
    assert rows["full"]["effective_bits"] == "32.0"
    assert rows["ot/2bit"]["n"] == "100"
    assert rows["ot/2bit"]["extractor"] == "classifier"
    assert rows["ot/2bit"]["evaluations"] == "2.0"
    assert rows["real"]["evaluations"] == ""
    assert rows["real"]["accuracy"] == ""
    # A hundred samples for 512 features.
    assert all("few_images" in row["caveats"].split() for row in rows.values())
    log = finished.folder / RUN / "logs/collect.log"
    assert "warning: digits, real: no more images" in log.read_text()


def test_what_was_made_is_compared(finished: Workflow) -> None:
    with (finished.folder / RUN / "comparisons.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["other"]) for row in rows] == [
        ("ot/2bit", "full"),
        ("uniform/2bit", "full"),
    ]
    for row in rows:
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
        assert (row["n"], row["over"]) == ("100", "samples")
    assert (
        "## digits, features by classifier"
        in (finished.folder / RUN / "comparisons.md").read_text()
    )


def test_another_training_seed_adds_a_model(finished: Workflow) -> None:
    finished.configure("seeds.yaml", {"training_seeds": [0, 1]})
    config = {"base": ("tiny.yaml", "seeds.yaml")}
    assert finished.jobs(**config) == {
        "train": 1,
        "quantize": 2,
        "sample": 3,
        "sample_grids": 1,
        "score": 3,
        "collect": 1,
        "compare": 1,
        "plot_metrics": 3,
        "report_table": 3,
        "report_overview": 1,
        "all": 1,
    }
    plan = finished.snakemake("--dry-run", "-p", config=config["base"])
    trained = re.findall(r"--output=(\S*_model.safetensors) .* --seed=(\d)", plan.stdout)
    assert trained == [(f"{RUN}/models/digits-seed1_model.safetensors", "1")]
    assert set(re.findall(r"--training-seed=(\d)", plan.stdout)) == {"1"}


def test_nothing_is_left_to_do(finished: Workflow) -> None:
    assert finished.jobs() == {}


def test_a_changed_line_on_the_command_line(finished: Workflow) -> None:
    """As config/README.md has it."""
    done = finished.snakemake("--dry-run", "--config", "bits=[2, 3]", "plot={dpi: 99}")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^quantize +2$", done.stdout, re.MULTILINE)


def test_the_papers_graph(finished: Workflow) -> None:
    """`snakemake -n --cores all`: four datasets, nothing downloaded."""
    jobs = finished.jobs(base=())
    assert jobs["dataset"] == jobs["train"] == 4
    assert jobs["quantize"] == 4 * 8
    assert jobs["compare"] == 1
    assert jobs["sample"] == 4 * 9
    assert jobs["score"] == 4 * 10  # and the real floor
    assert jobs["extractor_weights"] == 1
    assert not (finished.folder / "data").exists()


def test_jobs_compute_on_as_many_devices_as_they_say(fresh: Workflow) -> None:
    shares = {"training": {"devices": 3, "batch": 48}, "sampling": {"devices": 2}}
    fresh.configure("shares.yaml", {"device": "auto", "presets": {"digits": shares}})
    target = "results/tiny/sampling/digits/full/seed0.png"
    config = ("tiny.yaml", "shares.yaml")
    plan = fresh.snakemake("--dry-run", "-p", target, "--resources", "gpu=4", config=config)
    devices = dict(re.findall(r"flowquant (train|sample) .*--devices=(\d)", plan.stdout))
    assert devices == {"train": "3", "sample": "2"}


def test_quantized_files_carry_the_models_configuration(finished: Workflow) -> None:
    path = finished.folder / RUN / "quantized_models/digits/uniform/2bit.safetensors"
    assert read_metadata(path)["model"]["network"]["width"] == 16


def test_a_sweep_over_solvers(finished: Workflow) -> None:
    """One job a variant; what the sweep does not compare makes nothing of it stale."""
    content = {"evaluations": [2, 5], "solvers": ["euler", "heun", "dopri5"], "tolerances": [0.1]}
    finished.configure("sweep.yaml", {"sweep": content})
    config = {"base": ("tiny.yaml", "sweep.yaml"), "targets": ("sweep",)}
    after = {"collect_sweep": 1, "plot_sweep": 1, "sweep": 1}
    assert finished.jobs(**config) == {"sweep_variant": 3} | after
    done = finished.snakemake("sweep", config=("tiny.yaml", "sweep.yaml"))
    assert done.returncode == 0, done.stdout[-5000:]
    run = finished.folder / RUN
    found = json.loads((run / "sweep/digits/ot/2bit.json").read_text())
    assert [(row["solver"], row["steps"]) for row in found["rows"]] == [
        ("euler", 2),
        ("euler", 5),
        ("heun", 1),
        ("heun", 2),
        ("dopri5", None),
    ]
    # The tiny run samples with two Euler steps: the same images, the same FID.
    scores = json.loads((run / "scores/digits/ot/2bit/seed0.json").read_text())
    fid = scores["evaluation"]["classifier"]["fid"]
    assert found["rows"][0]["fid"] == pytest.approx(fid, rel=1e-4)
    with (run / "sweep.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 * 5
    assert "### dopri5" in (run / "sweep.md").read_text()
    pixels = np.asarray(Image.open(run / "plots/digits_sweep.png").convert("L"))
    assert pixels.std() > 5
    assert finished.jobs(**config) == {}
    for change, jobs in (
        ({"presets": {"digits": {"sampling": {"steps": 3, "solver": "heun"}}}}, {}),
        ({"plot": {"dpi": 99}}, {"plot_sweep": 1, "sweep": 1}),
        ({"sweep": {"evaluations": [2, 6]}}, {"sweep_variant": 3} | after),
        ({"sweep": {"variants": ["full", "ot/2bit"]}}, after),
    ):
        finished.configure("change.yaml", change)
        assert finished.jobs("change.yaml", **config) == jobs
