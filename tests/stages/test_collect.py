"""Results gathered in the reference's schema, with uncertainty over seeds."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from flowquant.report.caveats import MEANINGS
from flowquant.report.summary import COLUMNS
from flowquant.report.tidy import COLUMNS as TIDY
from flowquant.runtime.files import sha256
from flowquant.stages.collect import collect
from project import ROOT
from scored import scored, scores


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Path]:
    """Two seeds of three variants; FID is 10, 20, 30 and 1 more for the second seed."""
    paths: dict[str, list[Path]] = {"scores": [], "models": [], "classifiers": []}

    def write(kind: str, name: str, content: dict[str, Any]) -> None:
        path = tmp_path / kind / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        paths[kind].append(path)

    for index, variant in enumerate(["full", "ot/2bit", "ot/16bit"], start=1):
        for seed in (1, 0):
            origin = {"dataset": "mnist", "variant": variant, "seed": seed, "n": 1000}
            other = scored(99.0, extractor="clip-vit-b-32", is_mean=None, is_std=None)
            recognized = {"accuracy": 1 / index, "precision": 0.5, "recall": 0.5, "f1": 0.5}
            content = scores(
                other,  # not in the order of tables
                scored(10.0 * index + seed),
                **origin,
                evaluations=80.0 + index,
                downstream=recognized,
            )
            write("scores", f"{variant.replace('/', '_')}_{seed}", content)
        size = {"dataset": "mnist", "variant": variant, "effective_bits": 2.01, "bytes": 12_345}
        write("models", variant.replace("/", "_"), size)
    write("classifiers", "mnist", {"dataset": "mnist", "test_accuracy": 0.99})
    outputs = {
        "results": tmp_path / "results.csv",
        "evaluation_results": tmp_path / "samples_evaluation_results.json",
        "downstream_results": tmp_path / "downstream_results.json",
        "summary": tmp_path / "summary.csv",
        "table": tmp_path / "summary.md",
    }
    inputs: dict[str, Any] = {kind: tuple(found) for kind, found in paths.items()}
    collect(**inputs | outputs, extractors=("classifier", "clip-vit-b-32"))
    return outputs


def test_what_others_read_stays_to_the_byte(results: dict[str, Path]) -> None:
    """Whatever files results are read from: of these numbers, what tables have always been."""
    known = {
        "results": "1f1384bfb0b4547b327b1d91b8e4f77e71c785976cb7c23365eebb08ca57f0c6",
        "evaluation_results": "3be55cb4e0a58a9263b7d5280329bc97e4f2dbe17bfe6a32d0a701ab5436381c",
        "downstream_results": "6635d6041586e77b9f02bebc38a65f3908f4163e2a85ee9c409fbe8e46bd8c88",
        "summary": "ab05b539440b2825d5f232719f647b690fb0e58e2f2e25f41ebf763b95b0d398",
        "table": "fb3ca12f5b96964ab51684ff393cc6616eab050b87624d09ba707a81786d0dbe",
    }
    assert {name: sha256(path) for name, path in results.items()} == known


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
    origin = {"dataset": "mnist", "variant": "real", "seed": 0, "n": 1000}
    path = tmp_path / "scores/real_0.json"
    path.write_text(json.dumps(scores(scored(10.0, fid=15.0), **origin)))
    (tmp_path / "classifiers/mnist.json").write_text('{"dataset": "mnist", "test_accuracy": 0.8}')
    outputs: dict[str, Any] = dict(results)
    collect(
        **outputs,
        scores=tuple((tmp_path / "scores").iterdir()),
        models=(),
        extractors=("classifier",),
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
    assert found["training_seeds"] == []


def test_the_table(results: dict[str, Path]) -> None:
    rows = list(csv.DictReader(results["summary"].read_text().splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["extractor"], row["variant"]) for row in rows] == [
        (extractor, variant)
        for extractor in ("classifier", "clip-vit-b-32")
        for variant in ("full", "ot/16bit", "ot/2bit")
    ]
    assert rows[2]["bits"] == "2"
    assert rows[0]["bits"] == "32"
    assert rows[0]["evaluations"] == "81.0"
    assert float(rows[2]["accuracy"]) == float(rows[5]["accuracy"]) == 0.5
    assert rows[2]["real_accuracy"] == "0.99"
    assert (rows[3]["fid"], rows[3]["is"]) == ("99.0", "")
    text = results["table"].read_text()
    assert "| mnist | ot/2bit | 2.01 | 12,345 | 20.50 [19." in text
    assert "1000 samples a seed, seeds 0 1, 81 to 83 evaluations an image, 512 features by" in text
    assert "intervals, of FID over samples, sampling seeds" in text
    assert "99.0% of real test images" in text
    assert text.index("Features by classifier:") < text.index("Features by clip-vit-b-32:")


def test_intervals(results: dict[str, Path]) -> None:
    """Of FID from its resamples, of accuracy from its count, of KID from two seeds alone."""
    row = list(csv.DictReader(results["summary"].read_text().splitlines()))[2]
    found = {name: float(row[name]) for name in row if name.endswith(("_low", "_high"))}
    # One draw in sixteen has the seed that is half below twice, and its resample that is, too.
    assert (found["fid_low"], found["fid_high"]) == (20.5 - 1, 20.5 + 1)
    half = 1.96 * (0.5 * 0.5 / 2000) ** 0.5
    assert found["accuracy_high"] - found["accuracy_low"] == pytest.approx(2 * half, rel=0.1)
    # Student's t of one degree of freedom: of two values one apart, at most ± 12.7 / 2.
    assert 8 < found["kid_high"] - found["kid_low"] < 13
    assert row["over"] == "samples, sampling seeds"


def test_every_number_has_a_row(results: dict[str, Path]) -> None:
    rows = list(csv.DictReader(results["results"].read_text().splitlines()))
    assert list(rows[0]) == list(TIDY)
    keys = [tuple(value for name, value in row.items() if name != "value") for row in rows]
    assert len(set(keys)) == len(keys)
    fids = [row for row in rows if row["metric"] == "fid" and row["extractor"] == "classifier"]
    assert [(row["variant"], row["sampling_seed"], row["value"]) for row in fids] == [
        *(("full", "0", "10.0"), ("full", "1", "11.0")),
        *(("ot/16bit", "0", "30.0"), ("ot/16bit", "1", "31.0")),
        *(("ot/2bit", "0", "20.0"), ("ot/2bit", "1", "21.0")),
    ]


def test_peers_are_marked(tmp_path: Path) -> None:
    files: list[Path] = []
    models: list[Path] = []
    for name in ("full", "ot/2bit", "hqq/4bit"):
        origin = {"dataset": "mnist", "variant": name}
        size: dict[str, Any] = {"effective_bits": 4.5, "bytes": 1000, "counted": name == "hqq/4bit"}
        for paths, kind, content in (
            (files, "s", scores(scored(), seed=0, n=1000)),
            (models, "m", size),
        ):
            path = tmp_path / f"{kind}_{name.replace('/', '_')}.json"
            path.write_text(json.dumps(origin | content))
            paths.append(path)
    summary, table = tmp_path / "summary.csv", tmp_path / "summary.md"
    collect(
        scores=tuple(files),
        models=tuple(models),
        extractors=("classifier",),
        results=tmp_path / "results.csv",
        evaluation_results=tmp_path / "e.json",
        downstream_results=tmp_path / "d.json",
        summary=summary,
        table=table,
    )
    rows = {row["variant"]: row for row in csv.DictReader(summary.read_text().splitlines())}
    assert {name for name, row in rows.items() if row["caveats"] == "counted_bytes"} == {"hqq/4bit"}
    assert {row["bytes"] for row in rows.values()} == {"1000"}
    text = table.read_text()
    assert "| mnist | hqq/4bit ¹ | 4.50 |" in text
    assert "- ¹ by another project's own code" in text
