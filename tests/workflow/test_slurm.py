"""The Slurm profile on a cluster: jobs are cancelled, preempted, killed, and lose their node."""

import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import slurm
from project import ROOT, TINY, copy_project
from slurm import Cluster, Job

# `auto`: jobs ask for GPUs, which this cluster only pretends to have, and run on CPUs.
CONFIG = TINY | {
    "device": "auto",
    "methods": {"ot": {"levels": "equal_mass"}},
    "evaluation": {"extractors": ["classifier"], "floor": False},
    # Long enough, some 5 s, to be still at work when it is interrupted.
    "presets": {"digits": TINY["presets"]["digits"] | {"training": {"epochs": 80, "ema": None}}},
}
RUN = "results/tiny"
DATASET = "results/data/digits.safetensors"
MODEL = f"{RUN}/models/digits_model.safetensors"
TRAINING_LOG = f"{RUN}/logs/train/digits.log"
TWO_DEVICES = {"presets": {"digits": {"training": {"devices": 2}}}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster; skips where there can be none, but never in CI."""
    if reason := slurm.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with slurm.cluster() as found:
        yield found
        print(*found.jobs(), sep="\n")  # Shown where a test fails.


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


@dataclass
class Submission:
    """A run of Snakemake that sends its jobs to the cluster."""

    cluster: Cluster
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def all_jobs(self) -> list[Job]:
        """The run's jobs, oldest first; Slurm knows them by the run's name."""
        run = re.search(r"SLURM run ID: (\S+)", self.output)
        return [job for job in self.cluster.jobs() if run and job.run == run[1]]

    def jobs(self, rule: str) -> list[Job]:
        """The run's jobs of a rule."""
        return [job for job in self.all_jobs() if job.rule == rule]

    def training(self) -> tuple[Job, str]:
        """The job that trains, once it takes steps, and what it has said."""
        log = self.folder / TRAINING_LOG
        while not (log.exists() and "digits_model:" in log.read_text()):
            assert self.process.poll() is None, self.output[-5000:]
            time.sleep(0.05)
        return self.jobs("train")[-1], log.read_text()

    def requeued(self, job: Job, how: Callable[[], object]) -> str:
        """Have the training job go back to the queue; what it said until then."""
        how()
        restarts = str(int(job.restarts) + 1)

        def back() -> bool:
            (now,) = self.jobs("train")
            return now.restarts == restarts and now.state in ("PENDING", "RUNNING")

        self.cluster.wait(back)
        log = self.folder / TRAINING_LOG
        said = log.read_text()
        log.unlink()
        return said


def visible_devices(job: Job, *words: str) -> list[str]:
    """For each of a job's processes with these arguments: the GPUs that Slurm lets it see."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (
                process.joinpath(name).read_text(errors="replace").split("\0")
                for name in ("cmdline", "environ")
            )
        except OSError:
            continue  # It has ended.
        if f"SLURM_JOB_ID={job.number}" in variables and command[1:4] == list(words):
            found += [word for word in variables if word.startswith("CUDA_VISIBLE_DEVICES=")]
    return found


@dataclass
class Moved:
    """A training run on two devices that was preempted, and then lost its node."""

    run: Submission
    seen: list[str]
    step: str
    nodes: list[str]
    said: list[str]


def cancelled(run: Submission) -> None:
    """Cancel the training job once it takes steps."""
    job, _ = run.training()
    run.cluster.ask("scancel", job.number)


def moved(run: Submission) -> Moved:
    """Look at the training job, have an urgent one take its place, and then unplug its node."""
    cluster = run.cluster
    first, _ = run.training()
    seen = visible_devices(first, "-m", "flowquant", "train")
    step = cluster.ask("scontrol", "show", "step", f"{first.number}.0")
    urgent = ["sbatch", "--partition=urgent", "--gpus=2", f"--nodelist={first.node}"]
    urgent += ["--output=/dev/null", "--wrap=sleep 1"]
    said = [run.requeued(first, lambda: cluster.ask(*urgent))]
    second, _ = run.training()
    said.append(run.requeued(second, lambda: cluster.power_off(second.node)))
    third, text = run.training()
    return Moved(run, seen, step, [first.node, second.node, third.node], [*said, text])


@dataclass
class Runs:
    """What was submitted: the whole workflow, a training of two devices, jobs of little memory."""

    whole: Submission
    moved: Moved
    starved: Submission


@pytest.fixture(scope="module")
def runs(cluster: Cluster, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Three runs side by side, all to their ends."""
    started = []

    def submit(
        name: str, *arguments: str, extra: dict[str, Any] | None = None, resources: str = ""
    ) -> Submission:
        workflow = copy_project(tmp_path_factory.mktemp(name))
        workflow.configure("tiny.yaml", CONFIG)
        workflow.configure("extra.yaml", extra or {})
        with (workflow.folder / "profiles/gres/profile.yaml").open("a") as profile:
            profile.write(resources)
        command = [python, "-m", "snakemake", "--workflow-profile", "profiles/slurm"]
        command += ["--slurm-status-command", "squeue"]  # no accounting here
        command += ["--slurm-init-seconds-before-status-checks", "2"]  # jobs are brief
        command += ["--slurm-jobname-prefix", name, "--configfile", "tiny.yaml", "extra.yaml"]
        with (workflow.folder / "output.txt").open("wb") as file:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=workflow.folder,
                env=cluster.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        started.append(process)
        return Submission(cluster, workflow.folder, process)

    try:
        whole = submit("whole")
        two = submit("moved", "--", MODEL, extra=TWO_DEVICES)
        gres = ("--profile", "profiles/gres", "--keep-going", "--", DATASET, "check")
        starved = submit("starved", *gres, resources="  dataset: {mem_mb: 50*attempt}\n")
        with ThreadPoolExecutor() as pool:
            others = pool.submit(cancelled, whole)
            found = Runs(whole, moved(two), starved)
            others.result()
        for process in started:
            process.wait(timeout=900)
        yield found
    finally:
        for process in started:
            process.terminate()
            process.wait()


def test_everything_is_made_by_slurm(runs: Runs) -> None:
    assert runs.whole.process.returncode == 0, runs.whole.output[-5000:]
    for name in ("summary.csv", "plots/digits_fid.png", "sampling/digits/ot/2bit/seed0.png"):
        assert (runs.whole.folder / RUN / name).stat().st_size > 0
    jobs = [job for job in runs.whole.all_jobs() if job.state == "COMPLETED"]
    assert sorted(job.rule for job in jobs) == sorted(
        ["check_preset", "dataset", "train", "classifier", "quantize", "real_features"]
        + ["sample", "score"] * 2
    )


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("train", ("gpu", "16000M", "1-00:00:00", "8", "gres:gpu:1")),
        ("quantize", ("gpu", "8000M", "10:00", "2", "gres:gpu:1")),
        ("dataset", ("cpu", "4000M", "4:00:00", "1", "N/A")),
    ],
)
def test_slurm_gets_the_rules_resources(runs: Runs, rule: str, asked: tuple[str, ...]) -> None:
    job = runs.whole.jobs(rule)[0]
    assert (job.partition, job.memory, job.runtime, job.cpus, job.gpus) == asked


def test_a_cancelled_job_keeps_its_state_and_resumes_with_more_memory(runs: Runs) -> None:
    first, second = runs.whole.jobs("train")
    assert (first.state, second.state) == ("CANCELLED", "COMPLETED")
    assert (first.memory, second.memory) == ("16000M", "32000M")
    folder = runs.whole.folder
    # In a folder named by the wildcards, of which that of the training seed is empty here.
    log = folder / f".snakemake/slurm_logs/rule_train/digits_/{first.number}.log"
    assert f"asked to stop: kept the state in {RUN}/checkpoints/digits.pt" in log.read_text()
    assert "resuming after step" in (folder / TRAINING_LOG).read_text()


def test_a_job_of_two_devices_is_one_process_that_sees_both(runs: Runs) -> None:
    (job,) = runs.moved.run.jobs("train")
    assert (job.gpus, job.memory) == ("gres:gpu:2", "32000M")
    assert " Tasks=1 " in runs.moved.step
    assert "gres:gpu:2" in runs.moved.step
    assert runs.moved.seen == ["CUDA_VISIBLE_DEVICES=0,1"]


def test_a_preempted_job_keeps_its_state_and_resumes(runs: Runs) -> None:
    before, after, _ = runs.moved.said
    assert f"asked to stop: kept the state in {RUN}/checkpoints/digits.pt" in before
    assert "resuming after step" in after


def test_a_job_whose_node_goes_away_resumes_on_another(runs: Runs) -> None:
    moved = runs.moved
    assert moved.nodes[1] != moved.nodes[2]
    assert "asked to stop" not in moved.said[1]
    assert "resuming after step" in moved.said[2]
    (job,) = moved.run.jobs("train")
    assert (job.state, job.restarts) == ("COMPLETED", "2")
    assert moved.run.process.returncode == 0, moved.run.output[-5000:]
    assert (moved.run.folder / MODEL).stat().st_size > 0


def test_a_job_killed_for_memory_gets_more_and_is_named(runs: Runs) -> None:
    jobs = runs.starved.jobs("dataset")
    assert [(job.state, job.memory) for job in jobs] == [("FAILED", "50M"), ("FAILED", "100M")]
    assert runs.starved.process.returncode == 1
    assert "rule dataset: killed for its memory 2 times. Give it more" in runs.starved.output
    assert "--set-resources 'dataset:mem_mb=16000*attempt'" in runs.starved.output


def test_a_cluster_may_know_gpus_as_generic_resources(runs: Runs) -> None:
    (job,) = runs.starved.jobs("check_preset")
    assert (job.state, job.partition) == ("COMPLETED", "gpu")
    assert (job.gpus, job.gres) == ("N/A", "gres:gpu:1")


def test_the_profile_of_generic_resources_names_every_rule_with_a_gpu() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    blocks = re.split(r"^(?:use )?rule ", rules, flags=re.M)[1:]
    asking = {re.split(r"\W", block)[0] for block in blocks if " gpu=" in block}
    asking |= {
        name for of, name in re.findall(r"^use rule (\w+) as (\w+)", rules, re.M) if of in asking
    }
    profile = (ROOT / "profiles/gres/profile.yaml").read_text()
    (named,) = re.findall(r'"(.*)"\.split', profile)
    assert set(named.split()) == asking
