"""Copies of the workflow: finished, with every stage run, fresh."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from everything import EVERYTHING, NETWORKS, RUN, others
from originals import PRESETS, write_originals
from project import Workflow, copy_project


class ByRun(LoadScopeScheduling):  # type: ignore[misc]  # xdist says no types
    """Gives tests that share a run, a module's or a session's, to one process.

    xdist's own groups (``--dist loadgroup``) are lost with pytest 9.2, where a test's id is fixed.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = Path(self.config.rootpath, nodeid.partition("::")[0])
        named = module.read_text(encoding="utf-8")
        runs = (name for name in ("everything", "finished") if f"{name}: Workflow" in named)
        return next(runs, module.stem)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByRun:
    """What ``--numprocesses`` distributes tests by."""
    return ByRun(config, log)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The whole pipeline, run once on a tiny configuration."""
    workflow = copy_project(tmp_path_factory.mktemp("finished"))
    done = workflow.snakemake()
    assert done.returncode == 0, done.stdout[-5000:]
    return workflow


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Every stage of the workflow, on the smallest inputs, in processes that share nothing."""
    workflow = copy_project(tmp_path_factory.mktemp("everything"), warm=False)
    write_originals(workflow.folder / "data")
    mirror = workflow.folder / "weights.pth"
    mirror.write_bytes(b"stand-in for Inception's weights")
    workflow.configure("everything.yaml", EVERYTHING)
    workflow.configure("others.yaml", others(mirror))
    downloads = [f"results/data/{name}.safetensors" for name in (*PRESETS, "digits")]
    downloads += ["results/data/inception-v3-compat.pth", "results/data/efficientnet-lite0.pth"]
    samples = [f"{RUN}/sampling/{name}/full/seed0.safetensors" for name in PRESETS]
    models = [f"{RUN}/models/{name}_model.safetensors" for name in ("imported", *NETWORKS)]
    for targets, config in (
        (["all", "sweep", "benchmark"], ("everything.yaml",)),
        (["check", *downloads, *models, *samples], ("everything.yaml", "others.yaml")),
    ):
        # Side by side, a thread for each: no stage has work for more.
        done = workflow.snakemake("--max-threads", "1", *targets, config=config)
        assert done.returncode == 0, done.stdout[-5000:]
    return workflow


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_project(tmp_path)
