"""What reports say of a stored tensor."""

import pytest
import torch

from flowquant.quantization.codebook import Codebook
from flowquant.quantization.describe import describe, errors
from flowquant.quantization.error import wasserstein2_pot

ORIGINAL = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 1.0]])
LEVELS = torch.tensor([[0.5, 2.5], [0.0, 1.0]])
INDICES = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.int32)


def test_a_quantized_tensor() -> None:
    assert describe(Codebook(LEVELS, INDICES, (2, 4)), ORIGINAL, "row") == {
        "values": 8,
        "bytes": 1 + 4 * 4,
        "mean_squared_error": 0.125,
        "w2": pytest.approx(0.125**0.5),
        "bits": 1,
        "levels": 2,
        "groups": 2,
        "granularity": "row",
    }


def test_a_tensor_that_stayed_float() -> None:
    assert describe(ORIGINAL.half(), ORIGINAL, "row") == {
        "values": 8,
        "bytes": 16,
        "mean_squared_error": 0.0,
        "w2": 0.0,
        "bits": 16,
        "granularity": "float",
    }


def test_both_implementations_of_the_distance_agree() -> None:
    content = Codebook(LEVELS, 1 - INDICES, (2, 4))
    assert errors(content, ORIGINAL, wasserstein2_pot) == pytest.approx(errors(content, ORIGINAL))
