"""AdamW in one pass, through Triton's interpreter, against PyTorch's."""

import pytest
import torch

from flowquant.training.adamw_kernel import adamw

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")


@pytest.mark.parametrize("begun", [0, 100, 100_000])
def test_updates_are_those_of_pytorch(begun: int) -> None:
    torch.manual_seed(0)
    weights, copy = torch.randn(1500), torch.empty(1500)
    exact = weights.double().requires_grad_()
    optimizer = torch.optim.AdamW([exact], lr=1e-2, weight_decay=0.1)
    first, second, step = torch.zeros(1500), torch.zeros(1500), torch.tensor(float(begun))
    optimizer.state[exact] = {
        "step": step.clone(),
        "exp_avg": first.double(),
        "exp_avg_sq": second.double(),
    }
    settings = (0.9, 0.999), 1e-8, 0.1
    for power in range(-6, 4):
        gradient = torch.randn(1500) * 10.0**power
        exact.grad = gradient.double()
        optimizer.step()
        step += 1
        adamw(weights, gradient, first, second, copy, torch.tensor(1e-2), step, *settings)
        torch.testing.assert_close(weights.double(), exact.detach(), atol=2e-6, rtol=2e-6)
        assert torch.equal(copy, weights)
