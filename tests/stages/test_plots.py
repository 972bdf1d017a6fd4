"""Figures of metrics and of samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from flowquant.config.variants import Variant
from flowquant.report.tables import write_table
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.plot_metrics import draw, plot_metrics, published_values
from flowquant.stages.plot_samples import plot_samples
from project import ROOT

PUBLISHED = ROOT / "results/published/samples_evaluation_results.json"
ROWS = [
    {"variant": Variant(method, bits), "fid": 10.0 * (index + 1), "fid_std": None}
    for index, (method, bits) in enumerate(
        [("real", None), ("full", None), ("ot", 8), ("ot", 2), ("uniform", 2.5)]
    )
]


def test_published_values(tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    path.write_text('{"celebA": {"full": {"fid": 1}, "ot": {"ot_2bit": {"fid": 2}}}}')
    assert published_values(path, "celeba", "fid") == {Variant("full"): 1, Variant("ot", 2): 2}
    assert published_values(path, "mnist", "fid") == {}
    with pytest.raises(UserError, match=r"published\.json: found no `accuracy` of full for celeba"):
        published_values(path, "celeba", "accuracy")


def test_a_line_for_each_method() -> None:
    axes = Figure().subplots()
    published = {Variant("full"): 5, Variant("ot", 2): 6, Variant("ot", 4): 7}
    draw(axes, ROWS, "fid", published)
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "FP32",
        "INT8",
        "INT2.5",
        "INT2",
    ]
    lines: dict[str, Any] = {
        label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    assert set(lines) == {"ot", "uniform", "ot, published", "real images"}
    # Four bits were published but not measured.
    assert lines["ot, published"].get_xydata().tolist() == [[0, 5], [3, 6]]
    assert lines["ot"][0].get_xydata().tolist() == [[0, 20], [1, 30], [3, 40]]
    assert set(lines["real images"].get_ydata()) == {10}


def test_a_figure_of_a_metric(tmp_path: Path) -> None:
    summary, figures = tmp_path / "summary.csv", (tmp_path / "plot.png", tmp_path / "plot.svg")
    shared = {"dataset": "mnist", "n": 100, "seeds": "0", "extractor": "inception-v3-compat"}
    shared |= {"caveats": "few_images weak_classifier"}
    columns = (*shared, "variant", "fid", "fid_std", "real_accuracy")
    write_table(summary, columns, [shared | row for row in ROWS])
    plot_metrics(
        summary=summary, dataset="mnist", metric="fid", published=PUBLISHED, outputs=figures, dpi=40
    )
    assert np.asarray(Image.open(figures[0]).convert("L")).std() > 5
    text = figures[1].read_text()
    assert "ot, published" in text
    # A classifier that is not asked is no reason to doubt.
    assert "few_images" in text
    assert "weak_classifier" not in text
    with pytest.raises(UserError, match="no column accuracy"):
        plot_metrics(
            summary=summary,
            dataset="mnist",
            metric="accuracy",
            published=PUBLISHED,
            outputs=figures,
            dpi=40,
        )


def test_samples_side_by_side(tmp_path: Path) -> None:
    paths = []
    for name, grey in (("full", 255), ("ot/2bit", 0)):
        paths.append(tmp_path / f"{grey}.safetensors")
        images = torch.full((6, 1, 8, 8), grey, dtype=torch.uint8)
        write_samples(paths[-1], images, torch.arange(6), Origin("mnist", name, 0, 2))
    plot_samples(samples=tuple(paths), outputs=(tmp_path / "plot.png",), columns=3, dpi=40)
    shown = np.asarray(Image.open(tmp_path / "plot.png").convert("L"))
    assert shown[: len(shown) // 2, 30:].mean() > shown[len(shown) // 2 :, 30:].mean() + 50
