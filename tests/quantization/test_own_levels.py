"""Levels by a function of the user's own."""

from pathlib import Path

import pytest
import torch

from flowquant.config.method import MethodConfig
from flowquant.quantization.apply import quantize_tensor
from flowquant.quantization.levels import uniform
from flowquant.quantization.own_levels import own_quantizer, try_out
from flowquant.runtime.errors import UserError


def written(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(f"import torch\n\ndef mine(values, count):\n    {body}\n")
    return f"{path}:mine"


def test_levels_in_any_order(tmp_path: Path) -> None:
    name = written(
        tmp_path,
        "from flowquant.quantization.levels import uniform; levels, i = uniform(values, count); "
        "return levels.flip(1).double(), levels.shape[1] - 1 - i.long()",
    )
    torch.manual_seed(0)
    values = torch.randn(3, 50)
    levels, indices = own_quantizer(name)(values, 4)
    expected = uniform(values, 4)
    assert torch.equal(levels, expected[0])
    assert torch.equal(indices, expected[1])
    method = MethodConfig(levels=name, granularity="row")
    own, built_in = (
        quantize_tensor(values, MethodConfig(levels=levels, granularity="row"), 2).expand()
        for levels in (name, "uniform")
    )
    assert method.levels == name
    assert torch.equal(own, built_in)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", r"ZeroDivisionError: division by zero, line 4, for values \[3, 64\] and 4"),
        ("return values", "a Tensor that is no pair of tensors"),
        ("return values, values", "levels float32 and indices float32"),
        ("return values[:, :5], values.int()", r"levels \[3, 5\]"),
        ("return values[:, :4], values[:, :5].int()", r"indices \[3, 5\]"),
        ("return values[:, :4] / 0, values.int() * 0", "levels that are NaN or infinite"),
        ("return values[:, :4], values.int() * 0 + 4", "indices 4 to 4 into 4 levels"),
    ],
)
def test_a_function_that_does_not_do(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"levels '.*mine\.py:mine': found {message}"):
        try_out(written(tmp_path, body))


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no `other` in .*; expected one of mine"):
        try_out(written(tmp_path, "pass").replace(":mine", ":other"))
    with pytest.raises(UserError, match=r"nowhere\.py', which cannot be imported"):
        try_out("nowhere.py:mine")


def test_a_name_that_is_neither() -> None:
    with pytest.raises(ValueError, match="levels"):
        MethodConfig(levels="loyd")
