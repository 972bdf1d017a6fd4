"""Running from the packed file: same velocities, little memory, and the fused kernel."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig, ModelConfig
from flowquant.models.transformer import SelfAttention
from flowquant.quantization.packed_file import PackedTensor, read_packed
from flowquant.quantization.packed_network import PackedLinear
from flowquant.quantization.packing import pack
from flowquant.quantization.variant import load_variant
from flowquant.stages.quantize import quantize
from tiny import TINY_MODEL, TINY_NETWORK, write_tiny_model


def packed_file(
    folder: Path, bits: int, granularity: str, scope: str, config: ModelConfig = TINY_MODEL
) -> Path:
    output = folder / "packed.safetensors"
    method = MethodConfig(
        levels="lloyd",
        granularity=granularity,
        scope=scope,  # type: ignore[arg-type]
        keep=(),
        least_values=5,
        levels_dtype="float16",
        float_dtype="float16",
    )
    model = write_tiny_model(folder, config)
    quantize(
        model=model,
        output=output,
        report=folder / "r.json",
        method=method,
        dataset="tiny",
        variant="m/2bit",
        bits=bits,
    )
    return output


@pytest.mark.parametrize("scope", ["all", "linear"])
@pytest.mark.parametrize(
    ("bits", "granularity"),
    [(2, "row"), (3, "tensor"), (2, "group:16"), (8, "tensor"), (11, "tensor")],
)
def test_packed_and_expanded_networks_agree(
    bits: int, granularity: str, scope: str, tmp_path: Path
) -> None:
    path = packed_file(tmp_path, bits, granularity, scope)
    expanded, _ = load_variant(path)
    packed, _ = load_variant(path, packed=True)
    layers = [m for m in packed.modules() if isinstance(m, PackedLinear)]
    if bits < 11:
        assert len(layers) >= 2 * 4
        attention = next(m for m in packed.modules() if isinstance(m, SelfAttention))
        assert isinstance(attention.in_projection, PackedLinear)
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    torch.testing.assert_close(packed(*inputs), expanded(*inputs))
    assert not any(tensor.is_meta for tensor in packed.state_dict().values())


@pytest.mark.parametrize("kind", ["class", "attributes"])
def test_conditions_through_a_packed_matrix(kind: str, tmp_path: Path) -> None:
    linear = replace(TINY_NETWORK, condition="linear")
    config = replace(TINY_MODEL, condition=ConditionConfig(kind=kind, count=40), network=linear)  # type: ignore[arg-type]
    path = packed_file(tmp_path, 2, "tensor", "linear", config)
    expanded, _ = load_variant(path)
    packed, _ = load_variant(path, packed=True)
    assert isinstance(packed.attr_emb, PackedLinear)
    condition = torch.tensor([0, 39]) if kind == "class" else torch.ones(2, 40, dtype=torch.uint8)
    inputs = torch.randn(2, 1, 8, 8), torch.rand(2), condition
    torch.testing.assert_close(packed(*inputs), expanded(*inputs))


def test_a_packed_network_is_as_small_as_its_file(tmp_path: Path) -> None:
    path = packed_file(tmp_path, 2, "tensor", "linear")
    contents, _ = read_packed(path)
    packed, _ = load_variant(path, packed=True)
    held = sum(t.numel() * t.element_size() for t in [*packed.parameters(), *packed.buffers()])
    stored = sum(
        t.packed.numel() + t.levels.numel() * t.levels.element_size()
        if isinstance(t, PackedTensor)
        else 4 * t.numel()
        for t in contents.values()
    )
    assert held == stored


def test_peak_memory_is_one_expanded_layer() -> None:
    code = """
import resource, sys, torch
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import PackedLinear
torch.set_num_threads(1)
size, count = 2048, 24
layers = [
    PackedLinear(
        PackedTensor(torch.randint(256, (size * size // 4,), dtype=torch.uint8),
                     torch.randn(size, 4).half(), 2, (size, size)), None)
    for _ in range(count)
]
x = torch.randn(1, size)
layers[0](x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for layer in layers:
    x = layer(x)
    x = x / x.norm()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    # A layer is 16 MiB in float32; all 24 would be 384.
    assert float(done.stdout) < 24


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("groups", [1, 24, 96])
def test_expansion_in_chunks_is_exact(
    bits: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowquant.quantization.packed_network.CHUNK", {"cpu": 40})
    draws = torch.Generator().manual_seed(0)
    levels = torch.randn(groups, 2**bits, generator=draws)
    indices = torch.randint(2**bits, (groups, 24 * 36 // groups), generator=draws)
    layer = PackedLinear(PackedTensor(pack(indices, bits), levels, bits, (24, 36)), None)
    assert layer.expand().equal(levels.gather(1, indices).view(24, 36))


def test_fused_kernel_agrees_with_expansion() -> None:
    pytest.importorskip("triton")
    code = """
import torch
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import PackedLinear
from flowquant.quantization.packing import pack
torch.manual_seed(0)
for bits in (1, 2, 4, 8):
    for groups in (1, 40):
        index = torch.randint(2**bits, (40, 72))
        weight = PackedTensor(pack(index, bits), torch.randn(groups, 2**bits), bits, (40, 72))
        for bias in (torch.randn(40), None):
            layer = PackedLinear(weight, bias)
            x = torch.randn(3, 37, 72)
            torch.testing.assert_close(layer.fused(x), layer(x), rtol=1e-4, atol=1e-4)
print("agrees")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "agrees", done.stderr


def test_full_precision_files_load_as_ever(tmp_path: Path) -> None:
    network, _ = load_variant(write_tiny_model(tmp_path), packed=True)
    assert any(isinstance(module, nn.Linear) for module in network.modules())
