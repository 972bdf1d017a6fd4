"""The U-Net against torchcfm's own class, for the same weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.network import UnetConfig
from flowquant.models.unet import Unet
from project import oracle

CLASSES = ConditionConfig(kind="class", count=10)
CIFAR10: dict[str, Any] = {
    "channels": 128,
    "channel_multipliers": (1, 2, 2, 2),
    "blocks": 2,
    "attention": (16,),
    "heads": 4,
    "head_channels": 64,
    "dropout": 0.1,
}
SMALL: dict[str, Any] = {
    "channels": 32,
    "channel_multipliers": (1, 2, 3),
    "blocks": 1,
    "attention": (4, 8),
    "heads": 4,
}
VARIANTS = [
    {},
    {"head_channels": 16},
    {"new_attention_order": True},
    {"scale_shift_norm": True},
    {"resample_blocks": True},
    {"blocks": 2, "attention": (), "resample_blocks": True, "scale_shift_norm": True},
]


def ours(size: int, settings: dict[str, Any], conditional: bool) -> Unet:
    condition: Any = "embedding" if conditional else "none"
    section = UnetConfig(family="unet", condition=condition, **settings)
    return Unet(section, ImageConfig(channels=3, size=size), CLASSES)


def theirs(size: int, settings: dict[str, Any], conditional: bool) -> nn.Module:
    oracle("torchcfm")
    from torchcfm.models.unet.unet import UNetModelWrapper

    return UNetModelWrapper(
        dim=(3, size, size),
        num_channels=settings["channels"],
        num_res_blocks=settings["blocks"],
        channel_mult=settings["channel_multipliers"],
        # Theirs cannot be told that there is none; twice the size is at no level.
        attention_resolutions=",".join(map(str, settings["attention"] or (2 * size,))),
        num_heads=settings["heads"],
        num_head_channels=settings.get("head_channels", -1),
        use_scale_shift_norm=settings.get("scale_shift_norm", False),
        resblock_updown=settings.get("resample_blocks", False),
        use_new_attention_order=settings.get("new_attention_order", False),
        dropout=settings.get("dropout", 0.0),
        class_cond=conditional,
        num_classes=CLASSES.count,
    )


def told(conditional: bool, classes: Tensor) -> list[Tensor]:
    return [classes] if conditional else []


@pytest.mark.parametrize(("conditional", "count"), [(False, 35_746_307), (True, 35_751_427)])
def test_names_and_shapes_are_torchcfms(conditional: bool, count: int) -> None:
    with torch.device("meta"):
        own = ours(32, CIFAR10, conditional).state_dict()
        their = theirs(32, CIFAR10, conditional).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in their.items()}
    assert sum(tensor.numel() for tensor in own.values()) == count


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("change", VARIANTS, ids=lambda change: ",".join(change) or "plain")
@torch.no_grad()
def test_velocity_is_torchcfms(change: dict[str, Any], conditional: bool) -> None:
    settings = SMALL | change
    torch.manual_seed(0)
    their, own = theirs(16, settings, conditional).eval(), ours(16, settings, conditional).eval()
    for parameter in their.parameters():
        # Of a size that keeps values near 1, those that begin as zeros too.
        nn.init.normal_(parameter, std=1 / max(1, parameter[0].numel()) ** 0.5)
    own.load_state_dict(their.state_dict(), strict=True)
    x, time, classes = torch.randn(3, 3, 16, 16), torch.rand(3), torch.tensor([0, 4, 9])
    expected = their(time, x, *told(conditional, classes))
    assert expected.std() > 0.1
    torch.testing.assert_close(own(x, time, classes), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_published_networks_velocity_is_torchcfms() -> None:
    """Of the CIFAR-10 checkpoints' size, one image."""
    torch.manual_seed(0)
    their, own = theirs(32, CIFAR10, False).eval(), ours(32, CIFAR10, False).eval()
    for parameter in their.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.02)
    own.load_state_dict(their.state_dict(), strict=True)
    x, time = torch.randn(1, 3, 32, 32), torch.rand(1)
    expected = their(time, x)
    assert expected.std() > 0.1
    found = own(x, time, torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_dropout_is_torchcfms() -> None:
    """At the same places, in the same order of draws."""
    settings = SMALL | {"dropout": 0.5}
    their, own = theirs(16, settings, False).train(), ours(16, settings, False).train()
    for parameter in their.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    own.load_state_dict(their.state_dict())
    x, time = torch.randn(2, 3, 16, 16), torch.rand(2)
    torch.manual_seed(5)
    expected = their(time, x)
    torch.manual_seed(5)
    found = own(x, time, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_it_begins_as_torchcfms() -> None:
    """What begins as zeros does so in both; all else is of one scale."""
    torch.manual_seed(0)
    own, their = ours(16, SMALL, True).state_dict(), theirs(16, SMALL, True).state_dict()
    for name, tensor in their.items():
        assert bool(own[name].any()) == bool(tensor.any()), name
        if tensor.numel() > 1000:
            assert own[name].std().item() == pytest.approx(tensor.std().item(), rel=0.1), name


def test_a_network_without_a_condition_sees_none() -> None:
    network = ours(16, SMALL, conditional=False).eval()
    nn.init.normal_(network.out[2].weight)  # type: ignore[arg-type]
    x, time = torch.randn(2, 3, 16, 16), torch.rand(2)
    first = network(x, time, torch.tensor([0, 1]))
    assert torch.equal(first, network(x, time, torch.tensor([5, 6]), torch.zeros(2)))


def test_norms_compute_in_float32() -> None:
    """A mean far from 0 would cost bfloat16 all digits of the values about it."""
    network = ours(16, SMALL, conditional=False).eval()
    network.cast(torch.bfloat16)
    seen: list[torch.dtype] = []
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    for norm in norms:
        assert norm.weight.dtype == torch.float32
        norm.register_forward_hook(lambda _, args, out: seen.append(out.dtype))
    network(torch.randn(1, 3, 16, 16), torch.rand(1), torch.tensor([0]))
    assert set(seen) == {torch.bfloat16}
    assert len(seen) == len(norms)
