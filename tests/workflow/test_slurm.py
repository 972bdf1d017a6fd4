"""The Slurm profile on a cluster of one node; a training job is cancelled on the way."""

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import slurm
from project import ROOT, TINY, copy_project
from slurm import Cluster

# `auto`: jobs ask for GPUs, which this cluster only pretends to have, and run on CPUs.
CONFIG = TINY | {
    "device": "auto",
    "methods": {"ot": {"levels": "equal_mass"}},
    "evaluation": {"extractor": "classifier", "floor": False},
    "presets": {"digits": TINY["presets"]["digits"] | {"training": {"epochs": 20, "ema": None}}},
}
RUN = "results/tiny"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster; skips where there can be none, but never in CI."""
    if reason := slurm.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with slurm.cluster() as found:
        yield found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the plugin, which is not to be where other tests run."""
    folder = tmp_path_factory.mktemp("slurm") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(site) / "beneath.pth").write_text(sysconfig.get_path("purelib"))
    interpreter = str(folder / "bin/python")
    requirements = ROOT / "envs/requirements-slurm.txt"
    subprocess.run([interpreter, "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return interpreter


def cancel_training(cluster: Cluster, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Cancel the job that trains once it takes steps."""
    while not (log.exists() and "digits_model:" in log.read_text()):
        assert process.poll() is None, "Snakemake ended before training began"
        time.sleep(0.05)
    (job,) = (job for job in cluster.jobs() if job.rule == "train")
    cluster.ask("scancel", job.number)


@pytest.fixture(scope="module")
def finished(cluster: Cluster, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the cluster."""
    workflow = copy_project(tmp_path_factory.mktemp("on_slurm"))
    workflow.configure("tiny.yaml", CONFIG)
    command = [python, "-m", "snakemake", "--workflow-profile", "profiles/slurm"]
    command += ["--slurm-status-command", "squeue"]  # no accounting here
    command += ["--slurm-init-seconds-before-status-checks", "2"]  # jobs are brief
    output = workflow.folder / "output.txt"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [*command, "--configfile", "tiny.yaml"],
            cwd=workflow.folder,
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            cancel_training(cluster, workflow.folder / RUN / "logs/train/digits.log", process)
            process.wait(timeout=900)
        finally:
            process.terminate()
    assert process.returncode == 0, output.read_text()[-5000:]
    return workflow.folder


def test_everything_is_made_by_slurm(finished: Path, cluster: Cluster) -> None:
    for name in ("summary.csv", "plots/digits_fid.png", "sampling/digits/ot/2bit/seed0.png"):
        assert (finished / RUN / name).stat().st_size > 0
    jobs = cluster.jobs()
    assert sorted(job.rule for job in jobs if job.state == "COMPLETED") == sorted(
        ["check_preset", "dataset", "train", "classifier", "quantize", "real_features"]
        + ["sample", "evaluate", "downstream"] * 2
    )


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("train", ("16000M", "1-00:00:00", "8", "gres:gpu:1")),
        ("quantize", ("8000M", "10:00", "2", "gres:gpu:1")),
        ("dataset", ("4000M", "4:00:00", "1", "N/A")),
    ],
)
def test_slurm_gets_the_rules_resources(
    finished: Path, cluster: Cluster, rule: str, asked: tuple[str, ...]
) -> None:
    jobs = [job for job in cluster.jobs() if job.rule == rule]
    assert jobs
    for job in jobs:
        assert (job.memory, job.runtime, job.cpus, job.gpus) == asked


def test_a_cancelled_job_keeps_its_state_and_resumes(finished: Path, cluster: Cluster) -> None:
    first, second = (job for job in cluster.jobs() if job.rule == "train")
    assert (first.state, second.state) == ("CANCELLED", "COMPLETED")
    log = finished / f".snakemake/slurm_logs/rule_train/digits/{first.number}.log"
    assert f"asked to stop: kept the state in {RUN}/checkpoints/digits.pt" in log.read_text()
    assert "resuming after step" in (finished / RUN / "logs/train/digits.log").read_text()
