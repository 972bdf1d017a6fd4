"""Running from the packed file: same velocities, little memory, and the fused kernel."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig, ModelConfig
from flowquant.models.family import FAMILIES, matrices
from flowquant.quantization import packed_network
from flowquant.quantization.apply import quantize_tensor
from flowquant.quantization.expansion import Turns
from flowquant.quantization.packed_file import PackedTensor, read_packed
from flowquant.quantization.packed_network import PackedWeight, take_turns
from flowquant.quantization.packing import pack
from flowquant.quantization.variant import load_variant
from flowquant.runtime.tensors import read_metadata
from flowquant.stages.quantize import quantize
from tiny import TINY_MODEL, TINY_NETWORK, TINY_NETWORKS, write_tiny_model


def method(granularity: str, scope: str) -> MethodConfig:
    return MethodConfig(
        levels="lloyd",
        granularity=granularity,
        scope=scope,  # type: ignore[arg-type]
        keep=(),
        least_values=5,
        levels_dtype="float16",
        float_dtype="float16",
    )


def packed_file(
    folder: Path, bits: int, granularity: str, scope: str, config: ModelConfig = TINY_MODEL
) -> Path:
    output = folder / "packed.safetensors"
    model = write_tiny_model(folder, config)
    quantize(
        model=model,
        output=output,
        report=folder / "r.json",
        method=method(granularity, scope),
        dataset="tiny",
        variant="m/2bit",
        bits=bits,
    )
    return output


@pytest.mark.parametrize("scope", ["all", "matrices"])
@pytest.mark.parametrize(
    ("bits", "granularity"),
    [(2, "row"), (3, "tensor"), (3, "scaled"), (2, "group:16"), (8, "tensor"), (11, "tensor")],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_and_expanded_networks_agree(
    family: str, bits: int, granularity: str, scope: str, tmp_path: Path
) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    path = packed_file(tmp_path, bits, granularity, scope, config)
    expanded, _ = load_variant(path)
    packed, _ = load_variant(path, packed=True)
    found = {name for name, m in packed.named_modules() if isinstance(m, PackedWeight)}
    if bits < 11:
        # Every weight that is a matrix is held as its file holds it.
        stored = read_metadata(path)["packed"].keys()
        assert found >= matrices(expanded) & stored
        assert len(found) >= (1 if family == "custom" else 8)
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    torch.testing.assert_close(packed(*inputs), expanded(*inputs))
    assert not any(tensor.is_meta for tensor in packed.state_dict().values())


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_convolutions_of_any_dimension(layer: Any) -> None:
    torch.manual_seed(0)
    convolution = layer(4, 6, 3, stride=2, padding=1, padding_mode="circular", groups=2)
    weight = convolution.weight.detach()
    book = quantize_tensor(weight, method("row", "matrices"), 2)
    x = torch.randn(2, 4, *[6] * (weight.dim() - 2))
    convolution.weight.data = book.expand()
    expected = convolution(x)
    del convolution.weight
    indices = pack(book.indices, 2)
    convolution.weight = PackedWeight(PackedTensor(indices, book.levels, 2, book.shape))
    assert convolution(x).equal(expected)


def test_packed_weights_compute_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS["unet"])
    path = packed_file(tmp_path, 2, "row", "matrices", config)
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    found = []
    for packed in (False, True):
        network, _ = load_variant(path, packed=packed)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(network(*inputs))
        network.cast(torch.bfloat16)  # type: ignore[operator]
        found.append(network(*inputs))
    torch.testing.assert_close(found[2:], found[:2])


@pytest.mark.parametrize("kind", ["class", "attributes"])
def test_conditions_through_a_packed_matrix(kind: str, tmp_path: Path) -> None:
    linear = replace(TINY_NETWORK, condition="linear")
    config = replace(TINY_MODEL, condition=ConditionConfig(kind=kind, count=40), network=linear)  # type: ignore[arg-type]
    path = packed_file(tmp_path, 2, "tensor", "all", config)
    expanded, _ = load_variant(path)
    packed, _ = load_variant(path, packed=True)
    assert isinstance(packed.attr_emb.weight, PackedWeight)  # type: ignore[union-attr]
    condition = torch.tensor([0, 39]) if kind == "class" else torch.ones(2, 40, dtype=torch.uint8)
    inputs = torch.randn(2, 1, 8, 8), torch.rand(2), condition
    torch.testing.assert_close(packed(*inputs), expanded(*inputs))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_network_is_as_small_as_its_file(family: str, tmp_path: Path) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    path = packed_file(tmp_path, 2, "tensor", "matrices", config)
    contents, _ = read_packed(path)
    packed, _ = load_variant(path, packed=True)
    held = sum(t.numel() * t.element_size() for t in packed.state_dict().values())
    stored = sum(
        t.packed.numel() + t.levels.numel() * t.levels.element_size()
        if isinstance(t, PackedTensor)
        else 4 * t.numel()
        for t in contents.values()
    )
    assert held == stored


@pytest.mark.parametrize(
    ("layer", "shape"),
    [("nn.Linear(1, 1, bias=False)", (2048, 2048)), ("nn.Conv2d(1, 1, 4, 4)", (512, 512, 4, 4))],
)
def test_peak_memory_is_one_expanded_layer(layer: str, shape: tuple[int, ...]) -> None:
    code = f"""
import math, resource, torch
from torch import nn
from flowquant.quantization.expansion import Turns
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import PackedWeight, take_turns
torch.set_num_threads(1)
shape, layers = {shape}, [{layer} for _ in range(24)]
for layer in layers:
    packed = torch.randint(256, (math.prod(shape) // 4,), dtype=torch.uint8)
    del layer.weight
    layer.weight = PackedWeight(
        PackedTensor(packed, torch.randn(shape[0], 4).half(), 2, shape)
    )
    layer.bias = None
x = torch.randn(1, *shape[1:])
layers[0](x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for layer in layers:
    layer(x)
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
    monkeypatch.setattr("flowquant.quantization.packed_network.CHUNK", 40)
    draws = torch.Generator().manual_seed(0)
    levels = torch.randn(groups, 2**bits, generator=draws)
    indices = torch.randint(2**bits, (groups, 24 * 36 // groups), generator=draws)
    weight = PackedWeight(PackedTensor(pack(indices, bits), levels, bits, (24, 36)))
    assert weight.expand().equal(levels.gather(1, indices).view(24, 36))


def test_full_precision_files_load_as_ever(tmp_path: Path) -> None:
    network, _ = load_variant(write_tiny_model(tmp_path), packed=True)
    assert any(isinstance(module, nn.Linear) for module in network.modules())


def relu_network(folder: Path, granularity: str = "row") -> tuple[nn.Module, nn.Module]:
    """The same transformer with ReLU, expanded and packed at 3 bits."""
    config = replace(TINY_MODEL, network=replace(TINY_NETWORK, activation="relu"))
    path = packed_file(folder, 3, granularity, "matrices", config)
    return load_variant(path)[0], load_variant(path, packed=True)[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
def test_fused_layers_take_packed_weights(tmp_path: Path) -> None:
    from flowquant.models.fused import fuse

    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    outputs = []
    for network in relu_network(tmp_path):
        fuse(network)
        with torch.inference_mode():
            outputs.append(network(*inputs))
    torch.testing.assert_close(outputs[1], outputs[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
@pytest.mark.parametrize("granularity", ["row", "scaled"])
def test_as_on_a_gpu_by_the_kernel_and_in_turns(
    granularity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By weights expanded into memory that stays."""
    monkeypatch.setattr(packed_network, "_kernel_serves", lambda device: True)
    expanded, packed = relu_network(tmp_path, granularity)
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    for network in (expanded, packed):
        network.cast(torch.float16)  # type: ignore[operator]
    take_turns(packed)
    weights = [module for module in packed.modules() if isinstance(module, PackedWeight)]
    wanted = expanded(*inputs)
    for _ in range(2):
        torch.testing.assert_close(packed(*inputs), wanted, rtol=1e-2, atol=1e-2)
    assert {id(weight.turns) for weight in weights} == {id(weights[0].turns)}
    # What they hold is what their file holds, whatever they compute in.
    assert all(weight.levels.dtype == torch.float16 for weight in weights)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
def test_only_products_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that takes several weights has each in memory of its own."""
    monkeypatch.setattr(packed_network, "_kernel_serves", lambda device: True)
    books = [quantize_tensor(torch.randn(6, 4, 3, 3), method("row", "matrices"), 2) for _ in "abc"]
    first, *others = weights = [PackedWeight(PackedTensor.of(book)) for book in books]
    take_turns(nn.ModuleList(weights))
    asked, expanded = [], Turns.expanded

    def noted(turns: Turns, weight: Any, dtype: torch.dtype) -> torch.Tensor:
        asked.append(weight)
        return expanded(turns, weight, dtype)

    monkeypatch.setattr(Turns, "expanded", noted)
    convolution: Any = nn.Conv2d(4, 6, 3, bias=False)
    del convolution.weight
    convolution.weight = first
    assert convolution(torch.randn(1, 4, 5, 5).half()).isfinite().all()
    assert asked == [first]
    add: Any = torch.addcmul
    found = add(torch.zeros(1).half(), *others)
    torch.testing.assert_close(found, (books[1].expand() * books[2].expand()).half())
    assert asked == [first]


def test_without_a_gpu_nothing_is_kept_expanded(tmp_path: Path) -> None:
    _, packed = relu_network(tmp_path)
    take_turns(packed)
    assert all(m.turns is None for m in packed.modules() if isinstance(m, PackedWeight))


def test_a_gpu_that_the_kernel_does_not_compile_for_has_pytorch_expand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said once, in a line; the kernel fails here, too, for want of the GPU."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no code for this GPU\nptxas …")

    monkeypatch.setattr("flowquant.quantization.packed_kernel.expand_into", fail)
    packed_network._kernel_compiles.cache_clear()
    for _ in range(2):
        assert not packed_network._kernel_compiles(torch.device("cpu"))
    said = "packed weights are expanded by PyTorch: no code for this GPU\n"
    assert capsys.readouterr().err == said
    packed_network._kernel_compiles.cache_clear()
