"""The GroupNorm kernel, on the CPU through Triton's interpreter, against PyTorch's operations."""

import pytest
import torch
import torch.nn.functional as F

from flowquant.models.kernels.group_norm import group_norm, group_norm_backward

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
SEED = torch.tensor([1234])


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("with_added", [True, False])
@pytest.mark.parametrize(
    ("channels", "groups", "height", "width"),
    [(8, 2, 4, 4), (12, 4, 3, 5), (96, 32, 2, 2), (24, 2, 1, 1), (256, 2, 1, 3)],
)
def test_group_norm_and_its_gradient(
    channels: int, groups: int, height: int, width: int, with_added: bool, silu: bool
) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, channels, height, width) * 3 + 5).to(memory_format=torch.channels_last)
    weight, bias, added = torch.randn(channels), torch.randn(channels), torch.randn(2, channels)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias, added)]
    shifted = leaves[0] + leaves[3][:, :, None, None] if with_added else leaves[0]
    wanted = F.group_norm(shifted, groups, leaves[1], leaves[2], 1e-5)
    wanted = F.silu(wanted) if silu else wanted
    given = added if with_added else None
    moments = torch.empty(2, 2, groups)
    found = group_norm(x, groups, weight, bias, 1e-5, silu, given, moments=moments)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(wanted).contiguous(memory_format=torch.channels_last)
    wanted.backward(grad)
    gradients = group_norm_backward(x, grad, groups, weight, bias, moments, silu, given)
    for mine, leaf in zip(gradients[: 3 + with_added], leaves, strict=False):
        torch.testing.assert_close(mine, leaf.grad, atol=1e-4, rtol=1e-3)
    assert with_added or gradients[3] is None


def test_group_norm_with_dropout() -> None:
    """⟨g, out⟩ is linear in weight and bias without SiLU: both passes use the same mask."""
    torch.manual_seed(0)
    x = torch.randn(3, 16, 6, 6).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(16), torch.randn(16)
    moments, kept = torch.empty(2, 3, 4), torch.empty_like(x, dtype=torch.int8)
    out = group_norm(x, 4, weight, bias, 1e-5, False, None, 0.3, SEED, moments, kept)
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.03)
    assert ((out == 0) == (kept == 0)).all()
    grad = torch.randn_like(x)
    _, of_weight, of_bias, _ = group_norm_backward(
        x, grad, 4, weight, bias, moments, False, None, 0.3, kept
    )
    total = (of_weight * weight + of_bias * bias).sum()
    torch.testing.assert_close((grad * out).sum(), total, atol=1e-3, rtol=1e-4)
    whole = group_norm(x, 4, weight, bias, 1e-5, False)
    torch.testing.assert_close(out * kept * 0.7, whole * kept, atol=1e-5, rtol=1e-4)
    assert not torch.equal(out, group_norm(x, 4, weight, bias, 1e-5, False, None, 0.3, SEED + 1))
