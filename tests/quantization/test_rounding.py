"""Rounding one value after another: the kernel against columns one by one."""

import pytest
import torch

from flowquant.quantization.rounding import _Nearest, round_columns


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("columns", [1, 7])
def test_the_kernel_rounds_as_columns_one_by_one_do(columns: int, shared: bool, count: int) -> None:
    pytest.importorskip("triton")
    from flowquant.quantization.rounding_kernel import round_block

    device = "cuda" if torch.cuda.is_available() else "cpu"
    draws = torch.Generator().manual_seed(columns)
    rows = 21
    wanted, values, own = torch.randn(3, columns, rows, generator=draws).to(device)
    inner = torch.randn(columns, columns, generator=draws).to(device) * 0.1
    levels = torch.randn(2, count, 1 if shared else rows, generator=draws).to(device).sort(1).values
    block = torch.arange(columns, device=device) % 2
    tables = _Nearest.of(levels, rows)
    errors = own.clone()
    expected = round_columns(wanted, values, inner, errors, [tables[i] for i in block.tolist()])
    found = round_block(wanted, values, inner, own, levels, block)
    assert found.equal(expected)
    torch.testing.assert_close(own, errors)
