"""A method that is both mixed and refined, from the configuration to the figures' data."""

import json


def test_a_refined_method_of_mixed_widths(everything):
    results = everything.folder / "results/everything"
    refined = json.loads((results / "quantized_models/tiny_idx/refined/8bit.json").read_text())
    assert refined["velocity_error"]["after"] < refined["velocity_error"]["before"]
    allocation = json.loads((results / "allocations/tiny_idx/refined/8bit.json").read_text())
    assert allocation["effective_bits"] <= 8
    fidelity = json.loads((results / "fidelity/tiny_idx/refined/8bit/seed0.json").read_text())
    assert 0 < fidelity["ssim"] <= 1
    assert (results / "plots/tiny_idx_refined_8bit_allocation.png").stat().st_size > 0
    assert (results / "distances/tiny_idx/refined/8bit.json").stat().st_size > 0
