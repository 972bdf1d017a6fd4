"""A finished and a fresh copy of the workflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from project import Workflow, copy_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The whole pipeline, run once on a tiny configuration."""
    workflow = copy_project(tmp_path_factory.mktemp("finished"))
    done = workflow.snakemake()
    assert done.returncode == 0, done.stdout[-5000:]
    return workflow


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_project(tmp_path)
