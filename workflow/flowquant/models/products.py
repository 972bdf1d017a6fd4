"""Products by weights, with what follows them in the same kernel where there is one."""

import torch
from torch import Tensor


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of x·Wᵀ + b: [..., in] by [out, in] → [..., out]; by themselves, two passes over it."""
    out = torch._addmm_activation(bias, x.flatten(0, -2), weight.t())
    return out.view(*x.shape[:-1], -1)
