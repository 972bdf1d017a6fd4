"""Results gathered in the reference's schema, with uncertainty over seeds."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from flowquant.report.summary import COLUMNS, EVALUATION
from flowquant.stages.collect import collect
from project import ROOT


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Path]:
    """Two seeds of three variants; FID is 10, 20, 30 and 1 more for the second seed."""
    paths: dict[str, list[Path]] = {
        "evaluations": [],
        "downstreams": [],
        "models": [],
        "classifiers": [],
    }

    def write(kind: str, name: str, content: dict[str, Any]) -> None:
        path = tmp_path / kind / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        paths[kind].append(path)

    for index, variant in enumerate(["full", "ot/2bit", "ot/16bit"], start=1):
        for seed in (1, 0):
            origin = {"dataset": "mnist", "variant": variant, "seed": seed, "n": 1000}
            name = f"{variant.replace('/', '_')}_{seed}"
            values = dict.fromkeys(EVALUATION, 10.0 * index + seed) | {"evaluations": 80.0 + index}
            write("evaluations", name, origin | values | {"extractor": "classifier"})
            scores = {"accuracy": 1 / index, "precision": 0.5, "recall": 0.5, "f1": 0.5}
            write("downstreams", name, origin | scores)
        size = {"dataset": "mnist", "variant": variant, "effective_bits": 2.01, "bytes": 12_345}
        write("models", name, size)
    write("classifiers", "mnist", {"dataset": "mnist", "test_accuracy": 0.99})
    outputs = {
        "evaluation_results": tmp_path / "samples_evaluation_results.json",
        "downstream_results": tmp_path / "downstream_results.json",
        "summary": tmp_path / "summary.csv",
        "table": tmp_path / "summary.md",
    }
    inputs: dict[str, Any] = {kind: tuple(found) for kind, found in paths.items()}
    collect(**inputs | outputs)
    return outputs


def test_the_references_schema(results: dict[str, Path]) -> None:
    found = json.loads(results["evaluation_results"].read_text())
    published = json.loads((ROOT / "results/published/samples_evaluation_results.json").read_text())
    theirs = published["mnist"]["ot"]["ot_2bit"]
    assert theirs.keys() <= found["mnist"]["ot"]["ot_2bit"].keys()
    assert published["mnist"]["full"].keys() <= found["mnist"]["full"].keys()
    assert set(found["mnist"]["ot"]) == {"ot_2bit", "ot_16bit"}
    downstream = json.loads(results["downstream_results"].read_text())
    published = json.loads((ROOT / "results/published/downstream_results.json").read_text())
    assert published["mnist"]["full"].keys() <= downstream["mnist"]["full"].keys()


def test_means_and_deviations_over_seeds(results: dict[str, Path]) -> None:
    found = json.loads(results["evaluation_results"].read_text())["mnist"]["ot"]["ot_2bit"]
    assert found["fid"] == pytest.approx(20.5)
    assert found["fid_std"] == pytest.approx(0.5**0.5)
    assert found["seeds"] == [0, 1]


def test_the_table(results: dict[str, Path]) -> None:
    rows = list(csv.DictReader(results["summary"].read_text().splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["variant"] for row in rows] == ["full", "ot/16bit", "ot/2bit"]
    assert rows[2]["bits"] == "2"
    assert rows[0]["bits"] == "32"
    assert rows[0]["evaluations"] == "81.0"
    assert float(rows[2]["accuracy"]) == 0.5
    assert rows[2]["real_accuracy"] == "0.99"
    text = results["table"].read_text()
    assert "| mnist | ot/2bit | 2.01 | 12,345 | 20.50 ± 0.71 |" in text
    assert "1000 samples a seed, seeds 0 1, 81 to 83 evaluations an image, features by" in text
    assert "99.0% of real test images" in text
