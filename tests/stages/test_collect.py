"""Results gathered in the reference's schema, with uncertainty over seeds."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from flowquant.report.caveats import MEANINGS
from flowquant.report.summary import COLUMNS
from flowquant.stages.collect import collect
from project import ROOT
from scored import scored


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
            values = scored(10.0 * index + seed, evaluations=80.0 + index)
            write("evaluations", name, origin | values)
            other = scored(99.0, extractor="clip-vit-b-32", is_mean=None, is_std=None)
            write("evaluations", f"{name}_by_another", origin | other)
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
    collect(**inputs | outputs, extractor="classifier")
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


def test_numbers_to_be_believed_have_no_caveats(results: dict[str, Path]) -> None:
    rows = list(csv.DictReader(results["summary"].read_text().splitlines()))
    assert {row["caveats"] for row in rows} == {""}
    assert not any(meaning in results["table"].read_text() for meaning in MEANINGS.values())


def test_caveats_reach_log_and_tables(
    results: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A floor above full precision, and a classifier that falls short of its dataset."""
    capsys.readouterr()
    full = json.loads((tmp_path / "evaluations/full_0.json").read_text())
    path = tmp_path / "evaluations/real_0.json"
    path.write_text(json.dumps(full | {"variant": "real", "fid": 15.0, "evaluations": None}))
    (tmp_path / "classifiers/mnist.json").write_text('{"dataset": "mnist", "test_accuracy": 0.8}')
    outputs: dict[str, Any] = dict(results)
    collect(
        **outputs,
        evaluations=tuple((tmp_path / "evaluations").iterdir()),
        models=(),
        extractor="classifier",
        classifiers=(tmp_path / "classifiers/mnist.json",),
        references=(0.9,),
    )
    rows = {r["variant"]: r for r in csv.DictReader(results["summary"].read_text().splitlines())}
    assert {name: row["caveats"] for name, row in rows.items()} == {
        "real": "weak_classifier below_floor",
        "full": "weak_classifier below_floor",
        "ot/16bit": "weak_classifier",
        "ot/2bit": "weak_classifier",
    }
    text = results["table"].read_text()
    assert "| mnist | full ¹² |" in text
    assert "| mnist | ot/2bit ¹ |" in text
    assert f"- ² {MEANINGS['below_floor']}" in text
    told = capsys.readouterr().err.splitlines()
    assert f"warning: mnist, full: {MEANINGS['below_floor']}" in told
    assert len(told) == 6


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
    assert "1000 samples a seed, seeds 0 1, 81 to 83 evaluations an image, 512 features by" in text
    assert "99.0% of real test images" in text


def test_peers_are_marked_and_beside_the_best_of_ours(tmp_path: Path) -> None:
    """FID and bits of each variant; of ours, the best one that is no larger counts."""
    variants = {
        "full": (1.0, 32.0),
        "ot/2bit": (30.0, 2.1),
        "ot/4bit": (9.0, 4.2),
        "lloyd/4bit": (8.0, 4.6),
        "hqq/4bit": (8.5, 4.5),
        "hqq/3bit": (20.0, 3.7),
        "tiny/1bit": (99.0, 1.5),
    }
    evaluations: list[Path] = []
    models: list[Path] = []
    for name, (fid, bits) in variants.items():
        origin = {"dataset": "mnist", "variant": name}
        scores = scored(fid=fid, seed=0, n=1000)
        size: dict[str, Any] = {"effective_bits": bits, "bytes": 1000}
        if name.startswith(("hqq", "tiny")):
            size["counted"] = True
        for paths, kind, content in ((evaluations, "e", scores), (models, "m", size)):
            path = tmp_path / f"{kind}_{name.replace('/', '_')}.json"
            path.write_text(json.dumps(origin | content))
            paths.append(path)
    summary, table = tmp_path / "summary.csv", tmp_path / "summary.md"
    collect(
        evaluations=tuple(evaluations),
        models=tuple(models),
        extractor="classifier",
        evaluation_results=tmp_path / "e.json",
        downstream_results=tmp_path / "d.json",
        summary=summary,
        table=table,
    )
    rows = {row["variant"]: row for row in csv.DictReader(summary.read_text().splitlines())}
    assert {name for name, row in rows.items() if row["caveats"] == "counted_bytes"} == {
        *("hqq/4bit", "hqq/3bit", "tiny/1bit")
    }
    text = table.read_text()
    assert "| mnist | hqq/4bit ¹ | 4.50 |" in text
    assert "- ¹ by another project's own code" in text
    # The fewest bits first; full precision is none of ours, and lloyd/4bit is larger.
    assert text.split("\n\n")[-1].splitlines()[2:] == [
        "| mnist | tiny/1bit | 1.50 | 99.00 | – | – | – |",
        "| mnist | hqq/3bit | 3.70 | 20.00 | ot/2bit | 2.10 | 30.00 |",
        "| mnist | hqq/4bit | 4.50 | 8.50 | ot/4bit | 4.20 | 9.00 |",
    ]
