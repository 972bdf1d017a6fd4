"""The workflow runs from elsewhere: as a module of another workflow, and beside its own folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from project import ROOT, TINY, Done

AS_MODULE = f"""
configfile: "mine.yaml"

module flowquant:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config
    prefix: "quantized"

use rule * from flowquant as fq_*

use rule train from flowquant as fq_train with:
    threads: 1
"""


def snakemake(folder: Path, *arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but a configuration of its own."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def test_as_a_module_of_another_workflow(folder: Path) -> None:
    (folder / "Snakefile").write_text(AS_MODULE)
    plan = snakemake(folder, "--dry-run", "fq_all")
    assert plan.returncode == 0, plan.stdout[-3000:]
    assert "fq_plot_metrics" in plan.stdout
    target = "quantized/results/tiny/plots/digits_levels.png"
    done = snakemake(folder, target)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / target).stat().st_size > 1000
    # Everything is made under the prefix; a training run's unfinished state is no result.
    assert {path.name for path in folder.iterdir()} <= {
        *("mine.yaml", "Snakefile", ".snakemake", "quantized", "results")
    }
    assert "Nothing to be done" in snakemake(folder, target).stdout


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_beside_its_own_folder(folder: Path, snakefile: str) -> None:
    place = ("--snakefile", str(ROOT / snakefile), "--directory", str(folder))
    target = "results/tiny/quantized_models/digits/ot/2bit.json"
    config = ("--configfile", str(folder / "mine.yaml"))
    plan = snakemake(folder, *place, "--dry-run", "-p", "all", *config)
    assert plan.returncode == 0, plan.stdout[-3000:]
    # The published values are found beside the source.
    assert f"--published={ROOT}/results/published/" in plan.stdout
    if snakefile == "Snakefile":
        done = snakemake(folder, *place, target, *config)
        assert done.returncode == 0, done.stdout[-3000:]
        assert (folder / target).is_file()


def test_the_paper_from_an_empty_folder(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--snakefile", str(ROOT / "Snakefile"), "--dry-run")
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^plot_metrics +11$", done.stdout, re.MULTILINE)
