"""The table of the baseline and this project, and the clock behind it."""

from types import SimpleNamespace

import pytest
import torch

from flowquant.benchmark import timing
from flowquant.benchmark.ceiling import shapes_ceiling
from flowquant.benchmark.comparison import Comparison, Duration, as_markdown, as_row
from flowquant.benchmark.flops import Product
from flowquant.benchmark.timing import Timing, measure

CPU = torch.device("cpu")
TIMING = Timing(1.0, 3, 1)
SAMPLING = Comparison(
    "sampling, 1000 images",
    1000,
    "images/s",
    Duration(1900.0, TIMING, 10**15, "5 images × 20 steps"),
    Duration(4.0, TIMING, 10**15),
    own_shapes={"tflops": 500.0},
)
QUANTIZING = Comparison(
    "quantizing", 1, "s", Duration(6.5, TIMING), Duration(0.05, TIMING, None, "2 layers")
)


def test_rates_and_shares() -> None:
    row = as_row(SAMPLING, matrix=625.0)
    assert row["times_faster"] == 475
    assert row["project"]["images/s"] == 250
    assert row["project"]["tflops"] == pytest.approx(250)
    assert row["project"]["of_matrix_ceiling"] == pytest.approx(0.4)
    assert row["project"]["of_own_shapes"] == pytest.approx(0.5)
    assert row["project"]["extrapolated_from"] is None
    assert row["published"]["extrapolated_from"] == "5 images × 20 steps"
    assert "tflops" not in as_row(QUANTIZING, 625.0)["published"]


def test_the_table_says_what_is_extrapolated() -> None:
    lines = as_markdown([as_row(row, 625.0) for row in (SAMPLING, QUANTIZING)]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4]]
    assert cells[0][1:] == ["0.526 images/s [1]", "250 images/s", "475", "250", "40.0%", "50.0%"]
    assert cells[1][1:] == ["6.5 s", "0.05 s [2]", "130", "–", "–", "–"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[-2:] == [
        "- [1] extrapolated from 5 images × 20 steps",
        "- [2] extrapolated from 2 layers",
    ]


def test_short_work_is_timed_in_bursts_and_long_work_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    short = measure(lambda: work(1e-6), CPU, budget=0)
    assert (short.runs, short.repeats) == (1000, 3)
    assert short.seconds == pytest.approx(1e-6)
    long = measure(lambda: work(0.06), CPU, budget=0)
    assert (long.runs, long.repeats) == (1, 3)
    assert long.seconds == pytest.approx(0.06)


def test_a_ceiling_weighs_products_by_their_time() -> None:
    products = [Product("a", 64, 32, 16, times=3), Product("b", 8, 8, 8)]
    found = shapes_ceiling(products, torch.float32, CPU, budget=0)
    each = [p["tflops"] for p in found["products"]]
    seconds = [p.flops / rate / 1e12 for p, rate in zip(products, each, strict=True)]
    whole = sum(p.flops for p in products) / sum(seconds) / 1e12
    assert found["tflops"] == pytest.approx(whole)
