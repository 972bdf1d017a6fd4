"""Figures of metrics, of samples and of losses."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from flowquant.config.variants import Variant
from flowquant.report.quality import draw, points
from flowquant.report.tables import write_table
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.plot_curves import plot_curves
from flowquant.stages.plot_metrics import plot_metrics, published_values
from flowquant.stages.plot_samples import plot_samples
from project import ROOT

PUBLISHED = ROOT / "results/published/samples_evaluation_results.json"
SIZES: dict[str, tuple[int | None, float | None]] = {
    "full": (4_000_000, 32),
    "ot/8bit": (1_100_000, 8.2),
    "ot/2bit": (300_000, 2.2),
}
SIZES |= {"uniform/2.5bit": (350_000, 2.6), "real": (None, None)}
ROWS: list[dict[str, Any]] = [
    {
        "variant": Variant.parse(name),
        "fid": 10.0 * (index + 1),
        "bytes": size,
        "effective_bits": bits,
    }
    | {"extractor": "classifier", "real_accuracy": 0.9}
    for index, (name, (size, bits)) in enumerate(SIZES.items())
]


def test_published_values(tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text('{"celebA": {"full": {"fid": 1}, "ot": {"ot_2bit": {"fid": 2}}}}')
    assert published_values(path, "celeba", "fid") == {Variant("full"): 1, Variant("ot", 2): 2}
    assert published_values(path, "mnist", "fid") == {}
    with pytest.raises(UserError, match=r"published\.json: found no `accuracy` of full for celeba"):
        published_values(path, "celeba", "accuracy")


def drawn(rows: list[dict[str, Any]], published: dict[Variant, float]) -> dict[str, Any]:
    """What a figure of FID over bytes shows, by its label: lines and their intervals."""
    axes = Figure().subplots()
    draw(axes, points(rows, "mnist", "fid", published), "fid", "bytes")
    handles, labels = axes.get_legend_handles_labels()
    assert len(labels) == len(set(labels))
    return dict(zip(labels, handles, strict=True))


def test_a_line_for_each_method() -> None:
    lines = drawn(ROWS, {Variant("full"): 5, Variant("ot", 2): 6, Variant("ot", 4): 7})
    assert set(lines) == {
        *("ot", "uniform", "full precision", "real images"),
        *("ot, published", "full precision, published"),
    }
    assert lines["ot"][0].get_xydata().tolist() == [[300_000, 30], [1_100_000, 20]]
    # One width is a point.
    assert lines["uniform"][0].get_linestyle() == "None"
    assert lines["ot"][0].get_linestyle() == "-"
    # Four bits were published but not measured; what was lies where it was measured, pale.
    assert lines["ot, published"][0].get_xydata().tolist() == [[300_000, 6]]
    assert lines["ot, published"][0].get_alpha() < 0.5
    assert set(lines["full precision"].get_ydata()) == {10}
    assert set(lines["real images"].get_ydata()) == {50}


def test_bars_only_where_there_is_an_interval() -> None:
    assert not any(lines.has_yerr for name, lines in drawn(ROWS, {}).items() if name in {"ot"})
    given = [
        row | ({"fid_low": 25.0, "fid_high": 37.0} if row["variant"].bits == 2 else {})
        for row in ROWS
    ]
    (bars,) = drawn(given, {})["ot"].lines[2]
    # None of no length at the width without.
    drawn_bars = [segment for segment in bars.get_segments() if len(segment)]
    assert [bar[:, 1].tolist() for bar in drawn_bars] == [[25, 37]]


def test_the_look_is_the_names_alone() -> None:
    both, alone = drawn(ROWS, {}), drawn([ROWS[0], ROWS[3]], {})
    assert both["uniform"][0].get_color() == alone["uniform"][0].get_color()
    assert both["uniform"][0].get_marker() == alone["uniform"][0].get_marker()


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    shared = {"dataset": "mnist", "n": 100, "seeds": "0", "extractor": "inception-v3-compat"}
    shared |= {"caveats": "few_images weak_classifier"}
    write_table(path, list(dict.fromkeys([*shared, *rows[0]])), [shared | row for row in rows])
    return path


def test_figures_of_a_metric(tmp_path: Path) -> None:
    rows = [row | {"extractor": "inception-v3-compat"} for row in ROWS]
    figures = (tmp_path / "plot.png", tmp_path / "plot.svg")
    asked = {
        "summary": table(tmp_path / "summary.csv", rows),
        "dataset": "mnist",
        "published": PUBLISHED,
        "over_bytes": figures,
        "over_bits": (tmp_path / "bits.png",),
        "data": tmp_path / "plot.csv",
        "dpi": 40,
    }
    plot_metrics(**asked, metric="fid")  # type: ignore[arg-type]
    assert np.asarray(Image.open(figures[0]).convert("L")).std() > 5
    assert np.asarray(Image.open(tmp_path / "bits.png").convert("L")).std() > 5
    text = figures[1].read_text()
    assert "ot, published" in text
    # A picture that fills the place it is given.
    head = text[text.index("<svg ") : text.index(">", text.index("<svg "))]
    assert "viewBox" in head
    assert " width=" not in head
    # A classifier that is not asked is no reason to doubt.
    assert "few_images" in text
    assert "weak_classifier" not in text
    with (tmp_path / "plot.csv").open(newline="") as file:
        shown = list(csv.DictReader(file))
    measured = {
        row["variant"]: float(row["value"]) for row in shown if row["source"] != "published"
    }
    assert measured == {str(row["variant"]): row["fid"] for row in rows}
    assert {row["variant"] for row in shown if row["source"] == "published"} == {
        *("full", "ot/2bit", "ot/8bit")
    }
    with pytest.raises(UserError, match="no column accuracy"):
        plot_metrics(**asked, metric="accuracy")  # type: ignore[arg-type]


def test_a_panel_for_each_extractor(tmp_path: Path) -> None:
    rows = [row | {"extractor": name} for name in ("first", "second") for row in ROWS]
    plot_metrics(
        summary=table(tmp_path / "summary.csv", rows),
        dataset="mnist",
        metric="fid",
        published=PUBLISHED,
        over_bytes=(tmp_path / "plot.svg",),
        over_bits=(),
        data=tmp_path / "plot.csv",
        dpi=40,
    )
    text = (tmp_path / "plot.svg").read_text()
    assert "features by first" in text
    assert "features by second" in text
    assert "published" not in text


def test_samples_side_by_side(tmp_path: Path) -> None:
    paths = []
    for name, grey in (("full", 255), ("ot/2bit", 0)):
        paths.append(tmp_path / f"{grey}.safetensors")
        images = torch.full((6, 1, 8, 8), grey, dtype=torch.uint8)
        write_samples(paths[-1], images, torch.arange(6), Origin("mnist", name, 0, 2))
    data = tmp_path / "plot.csv"
    plot_samples(
        samples=tuple(paths), outputs=(tmp_path / "plot.png",), columns=3, data=data, dpi=40
    )
    shown = np.asarray(Image.open(tmp_path / "plot.png").convert("L"))
    # Below each row's name.
    assert shown[len(shown) // 3 : len(shown) // 2].mean() > shown[-len(shown) // 4 :].mean() + 50
    with data.open(newline="") as file:
        assert [row["index"] for row in csv.DictReader(file)] == ["0", "2", "5"] * 2


def test_curves_of_training_and_refinement(tmp_path: Path) -> None:
    training, refinement = tmp_path / "training.jsonl", tmp_path / "refinement.jsonl"
    training.write_text(
        "".join(
            json.dumps({"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e, "seconds": 1})
            + "\n"
            for e in (1, 2)
        )
    )
    refinement.write_text('{"step": 50, "loss": 0.5}\n{"step": 100, "loss": 0.25}\n')
    asked: dict[str, Any] = {"dataset": "mnist", "outputs": (tmp_path / "plot.svg",), "dpi": 40}
    asked |= {"data": tmp_path / "plot.csv", "training": (training,)}
    plot_curves(**asked, refinements=(refinement,), names=("refined/2bit",))
    assert "refined 2bit" in (tmp_path / "plot.svg").read_text()
    with asked["data"].open(newline="") as file:
        rows = [
            (r["curve"], r["epoch"] or r["step"], float(r["loss"])) for r in csv.DictReader(file)
        ]
    assert rows == [
        *(("training", "1", 1), ("validation", "1", 2)),
        *(("training", "2", 0.5), ("validation", "2", 1)),
        *(("refined/2bit", "50", 0.5), ("refined/2bit", "100", 0.25)),
    ]
    # Few steps leave no line.
    refinement.write_text("")
    plot_curves(**asked, refinements=(refinement,), names=("refined/2bit",))
    assert "refinement" not in (tmp_path / "plot.svg").read_text()
    refinement.write_text('{"step": 50}\n')
    with pytest.raises(UserError, match=r"refinement\.jsonl, line 1.*loss"):
        plot_curves(**asked, refinements=(refinement,), names=("refined/2bit",))
