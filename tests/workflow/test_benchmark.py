"""`snakemake benchmark` before anything else has run."""

import json

import pytest

from project import Workflow


def test_before_anything_else(fresh: Workflow) -> None:
    fresh.configure("brief.yaml", {"benchmark": {"seconds": 1}})
    done = fresh.snakemake("benchmark", config=("tiny.yaml", "brief.yaml"))
    assert done.returncode == 0, done.stdout[-5000:]
    folder = fresh.folder / "results/tiny/speed"
    report = json.loads((folder / "digits.json").read_text())
    assert report["device"] == "cpu"
    assert report["sizes"]["images"] == 100
    matrix = report["ceilings"]["matrix"]["tflops"]
    assert len(report["rows"]) == 8
    for row in report["rows"]:
        published, project = row["published"], row["project"]
        assert row["times_faster"] * project["seconds"] / published["seconds"] > 0.99
        if "tflops" in project:
            assert project["of_matrix_ceiling"] * matrix == pytest.approx(project["tflops"])
    assert [row["weights"] for row in report["evaluations"] if row["images"] == 1] == [
        *("full", "1 bit", "2 bits", "3 bits", "4 bits", "8 bits"),
    ]
    for row in report["rows"][1], report["rows"][-1]:  # sampling and looking, one at a time
        assert row["published"]["extrapolated_from"]
    table = (folder / "digits.md").read_text()
    assert "| training, steps of 128" in table
    assert "extrapolated from" in table
    assert "| 2 bits, packed" in table
    assert not (fresh.folder / "results/data").exists()
