"""Networks of other packages, as they are, through `quantize`, `save` and `load`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import flowquant
from flowquant.quantization.packed_file import read_quantized
from flowquant.quantization.record import quantized_record
from project import oracle


def diffusers_unet() -> nn.Module:
    oracle("diffusers")
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        num_class_embeds=3,
    )


def timm_transformer() -> nn.Module:
    oracle("timm")
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=16, patch_size=4, embed_dim=64, depth=2, num_heads=4, num_classes=10
    )


@pytest.mark.parametrize("build", [diffusers_unet, timm_transformer])
def test_exact_weights_come_back(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build().eval()
    small = flowquant.quantize(model, bits=2)
    packed = quantized_record(small).packed
    quantized = sum(weight.count for weight in packed.values())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert quantized > 0.9 * total
    assert not [name for name in packed if "norm" in name or "class_embedding" in name]
    flowquant.save(small, tmp_path / "small.safetensors")
    torch.manual_seed(1)
    same = flowquant.load(tmp_path / "small.safetensors", into=build().eval())
    contents, metadata = read_quantized(tmp_path / "small.safetensors")
    assert metadata["effective_bits"] < 4
    for name, tensor in small.state_dict().items():
        assert same.state_dict()[name].equal(tensor), name
    for name, weight in packed.items():
        assert dict(same.named_parameters())[name].equal(weight.unpack().expand()), name
    assert packed.keys() <= contents.keys()
    x = torch.randn(2, 3, 16, 16)
    inputs = (x, torch.tensor([1, 500]), torch.tensor([0, 2])) if "unet" in build.__name__ else (x,)
    with torch.no_grad():
        outputs = [network(*inputs) for network in (small, same)]
    first, second = (getattr(output, "sample", output) for output in outputs)
    assert first.equal(second)


def test_a_diffusers_network_is_refined_and_sampled() -> None:
    torch.manual_seed(0)
    model = diffusers_unet()

    def points(count: int) -> tuple[torch.Tensor, ...]:
        return torch.randn(count, 3, 16, 16), 1000 * torch.rand(count), torch.arange(count) % 3

    small = flowquant.quantize(model, bits=2)
    refined = flowquant.refine(small, model, points, steps=12, batch=4, learning_rate=1e-3)
    inputs = points(16)
    with torch.no_grad():
        wanted = model.eval()(*inputs).sample
        errors = [
            (network.eval()(*inputs).sample - wanted).square().mean().item()
            for network in (small, refined)
        ]
    assert errors[1] < errors[0]
    images = flowquant.sample(refined, [0, 1], shape=(3, 16, 16), steps=2, time_scale=1000)
    assert images.shape == (2, 3, 16, 16)
