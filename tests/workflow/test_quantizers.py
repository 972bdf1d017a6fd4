"""Refined methods, of one width and of mixed ones, from the configuration to the figures' data."""

import json

import pytest

from project import Workflow


@pytest.mark.parametrize("variant", ["refined/2bit", "mixed/8bit"])
def test_refined_methods(everything: Workflow, variant: str) -> None:
    results = everything.folder / "results/everything"
    refined = json.loads((results / f"quantized_models/tiny_idx/{variant}.json").read_text())
    assert refined["velocity_error"]["after"] < refined["velocity_error"]["before"]
    scores = json.loads((results / f"scores/tiny_idx/{variant}/seed0.json").read_text())
    assert 0 < scores["fidelity"]["ssim"] <= 1
    assert (results / f"distances/tiny_idx/{variant}.json").stat().st_size > 0


def test_a_mixed_method_keeps_its_budget(everything: Workflow) -> None:
    results = everything.folder / "results/everything"
    allocation = json.loads((results / "allocations/tiny_idx/mixed/8bit.json").read_text())
    assert allocation["effective_bits"] <= 8
    assert (results / "plots/tiny_idx_mixed_8bit_allocation.png").stat().st_size > 0
