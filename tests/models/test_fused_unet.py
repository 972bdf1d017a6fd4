"""The U-Net in few kernels, on the CPU through Triton's interpreter, against the U-Net as it is."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from flowquant.models.fused import fuse, fuse_for_training
from flowquant.models.model import build_network
from flowquant.models.unet import Residual
from tiny import TINY_MODEL, TINY_NETWORKS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
CPU = torch.device("cpu")
KINDS: list[dict[str, Any]] = [{}, {"scale_shift_norm": True}, {"resample_blocks": True}]


def unet(**settings: Any) -> nn.Module:
    """A tiny U-Net, all weights random: some are zero at first."""
    torch.manual_seed(0)
    network = build_network(replace(TINY_MODEL, network=replace(TINY_NETWORKS["unet"], **settings)))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(3, 1, 8, 8), torch.rand(3), torch.arange(3)


@pytest.mark.parametrize("settings", KINDS)
def test_fused_inference_is_the_networks(settings: dict[str, Any]) -> None:
    network, given = unet(**settings).eval(), inputs()
    with torch.inference_mode():
        plain = network(*given)
        fuse(network)
        torch.testing.assert_close(network(*given), plain, atol=1e-5, rtol=1e-4)
    layers = [module for module in network.modules() if isinstance(module, Residual)]
    assert layers
    assert all("forward" in vars(layer) for layer in layers)


@pytest.mark.parametrize("settings", KINDS)
def test_fused_training_has_the_networks_gradients(settings: dict[str, Any]) -> None:
    plain, given = unet(dropout=0.0, **settings), inputs()
    fused = deepcopy(plain)
    fuse_for_training(fused, CPU)
    outputs = [network(*given) for network in (plain, fused)]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)
    for output in outputs:
        output.square().sum().backward()
    pairs = zip(plain.named_parameters(), fused.parameters(), strict=True)
    for (name, wanted), found in pairs:
        torch.testing.assert_close(found.grad, wanted.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_dropout_draws_anew_at_every_pass() -> None:
    network, given = unet(dropout=0.5), inputs()
    fuse_for_training(network, CPU)
    torch.manual_seed(1)
    first, second = network(*given), network(*given)
    torch.manual_seed(1)
    assert torch.equal(network(*given), first)
    assert not torch.equal(first, second)
