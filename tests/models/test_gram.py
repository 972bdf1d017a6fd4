"""Sums of x·xᵀ, half of them computed, are those that one product makes."""

import pytest
import torch

from flowquant.models.gram import BLOCK, Gram


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_it_is_the_product(n: int) -> None:
    rows = torch.randn(70, n, generator=torch.Generator().manual_seed(n))
    gram = Gram(n, rows.device)
    for part in rows.split(30):
        gram.add(part)
    torch.testing.assert_close(
        gram.total.double(), rows.double().T @ rows.double(), rtol=0, atol=1e-4
    )
    assert gram.total.equal(gram.total.T)
