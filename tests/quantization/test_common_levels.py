"""One codebook for all weights of a network: fitted to all, stored once, trained as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ot
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import flowquant
from flowquant.config.method import MethodConfig
from flowquant.quantization.apply import check_widths, quantize_weights
from flowquant.quantization.codebook import Codebook, effective_bits, stored_bits
from flowquant.quantization.packed_file import (
    PackedTensor,
    read_packed,
    read_quantized,
    write_quantized,
)
from flowquant.quantization.packed_header import PACKED
from flowquant.quantization.packed_network import PackedWeight
from flowquant.quantization.record import record_of
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_tensors, write_tensors
from flowquant.stages.inspect import inspect
from flowquant.training.trainable import TrainableLevels

SHAPES = {"a": (16, 24), "b": (8, 6, 2, 2), "c": (48,)}


def weights() -> dict[str, Tensor]:
    """Rows of very different size, one of them zero."""
    draws = torch.Generator().manual_seed(0)
    made = {}
    for place, (name, shape) in enumerate(SHAPES.items()):
        rows = torch.logspace(-2, place, shape[0]).view(-1, *[1] * (len(shape) - 1))
        made[name] = torch.randn(shape, generator=draws) * (rows if len(shape) > 1 else 3)
    made["a"][3] = 0
    return made


def method(levels: str, **more: Any) -> MethodConfig:
    return MethodConfig(levels=levels, granularity="network", **more)


def quantized(levels: str = "vector:4", bits: float = 1, **more: Any) -> dict[str, Codebook]:
    made = quantize_weights(weights(), method(levels, **more), dict.fromkeys(SHAPES, bits))
    return {name: book for name, book in made.items() if isinstance(book, Codebook)}


def rows_of(tensor: Tensor) -> Tensor:
    return tensor.double().flatten(1) if tensor.dim() > 1 else tensor.double()[None]


def pooled(d: int) -> Tensor:
    """All values as vectors of d, rows of mean square 1."""
    parts = []
    for tensor in weights().values():
        rows = rows_of(tensor)
        size = rows.square().mean(1, keepdim=True).sqrt()
        parts.append((rows / torch.where(size > 0, size, 1)).view(-1, d))
    return torch.cat(parts)


@pytest.mark.parametrize(("levels", "d", "bits"), [("lloyd", 1, 2), ("vector:4", 4, 0.5)])
def test_it_is_kmeans_of_all_values(levels: str, d: int, bits: float) -> None:
    books, points = quantized(levels, bits), pooled(d)
    assert books.keys() == SHAPES.keys()
    codes = books["a"].levels.double().view(-1, d)
    assert len(codes) == 4
    assert all(book.levels.equal(books["a"].levels) for book in books.values())
    indices = torch.cat([book.indices.flatten() for book in books.values()]).long()
    assert indices.equal(torch.cdist(points, codes).argmin(1))
    for code in range(4):
        torch.testing.assert_close(
            codes[code], points[indices == code].mean(0), rtol=1e-3, atol=1e-3
        )
    # The error is the transport's to the measure that values are rounded to.
    masses = np.bincount(indices.numpy(), minlength=4) / len(points)
    cost = ot.dist(points.numpy(), codes.numpy())
    exact = ot.emd2(np.full(len(points), 1 / len(points)), masses, cost)
    assert (points - codes[indices]).square().sum(1).mean().item() == pytest.approx(exact, 1e-5)


@pytest.mark.parametrize("levels", ["lloyd", "vector:4", "uniform"])
def test_each_row_has_the_scale_of_least_error(levels: str) -> None:
    given, books = weights(), quantized(levels, 1)
    for name, book in books.items():
        assert book.scales is not None
        rows, ones = rows_of(given[name]), replace(book, scales=torch.ones_like(book.scales))
        chosen = ones.expand().view(rows.shape).double()
        best = ((rows * chosen).sum(1) / chosen.square().sum(1)).nan_to_num(0)
        torch.testing.assert_close(book.scales.double(), best, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("coding", ["none", "ans"])
def test_bytes_are_counted_once(coding: str, tmp_path: Path) -> None:
    books = quantized(levels_dtype="float16", coding=coding)
    path = written(tmp_path, books, coding)
    held = load_file(path)
    if coding == "none":
        # 16 vectors of 4, a scale a row, 4 bits for each 4 values.
        indices = 384 // 8 + 192 // 8 + 48 // 8
        assert stored_bits(books) == 8 * (16 * 4 * 2 + (16 + 8 + 1) * 2 + indices)
        assert sum(book.stored_bits for book in books.values()) == stored_bits(books) - 16 * 64
    assert stored_bits(books) == sum(8 * t.numel() * t.element_size() for t in held.values())
    assert [name for name in held if "levels" in name] == [".levels"]
    _, metadata = read_packed(path)
    assert metadata["version"] == 2
    assert metadata["effective_bits"] == effective_bits(books) == stored_bits(books) / 624


def written(folder: Path, books: Mapping[str, Codebook | PackedTensor], coding: str) -> Path:
    about = {"levels": "any", "granularity": "network", "scope": "all", "coding": coding}
    path = folder / "w.safetensors"
    write_quantized(path, books, {"method": about, "bits": None})
    return path


@pytest.mark.parametrize("coding", ["none", "ans"])
@pytest.mark.parametrize(("levels", "bits"), [("lloyd", 3), ("vector:4", 1)])
def test_the_file_holds_the_same_codebooks(
    levels: str, bits: int, coding: str, tmp_path: Path
) -> None:
    books = quantized(levels, bits, coding=coding)
    path = written(tmp_path, books, coding)
    found, _ = read_packed(path)
    packed = {name: book for name, book in found.items() if isinstance(book, PackedTensor)}
    assert packed.keys() == books.keys()
    for name, book in books.items():
        assert packed[name].levels is packed["a"].levels
        assert packed[name].unpack().expand().equal(book.expand())
        for dtype in (torch.float32, torch.bfloat16):
            expanded = PackedWeight(packed[name]).expand(dtype)
            assert expanded.equal(book.expand().to(dtype))
    before = path.read_bytes()
    assert written(tmp_path, packed, coding).read_bytes() == before


def test_any_module_is_saved_and_loaded(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 2))

    torch.manual_seed(0)
    small = flowquant.quantize(network(), 1, levels={"vector": 4}, granularity="network")
    x, path = torch.randn(2, 8, 6, 6), tmp_path / "small.safetensors"
    flowquant.save(small, path)
    for packed in (False, True):
        found = flowquant.load(path, into=network(), packed=packed)
        torch.testing.assert_close(found(x), small(x))
    refined = flowquant.refine(small, network(), (x.repeat(4, 1, 1, 1),), steps=3, batch=8)
    flowquant.save(refined, path)
    torch.testing.assert_close(flowquant.load(path, into=network())(x), refined(x))


def test_what_takes_more_room_stays_float() -> None:
    # 260 vectors of 8 in float16 are 33,280 bits; 256 of them, indices and scales 35,680.
    kinds: dict[str, Any] = {"levels": {"vector": 8}, "granularity": "network"}
    alone = flowquant.quantize(nn.Linear(40, 52), 1, **kinds)
    assert not record_of(alone).packed
    # Two such layers are worth one codebook.
    two = nn.Sequential(nn.Linear(40, 52), nn.Linear(40, 52))
    both = flowquant.quantize(two, 1, **kinds)
    assert record_of(both).packed.keys() == {"0.weight", "1.weight"}


@pytest.mark.parametrize("d", [1, 2])
def test_gradients_of_all_weights_add_up_in_one_table(d: int) -> None:
    books = quantized("lloyd" if d == 1 else "vector:2", 2 if d == 1 else 1)
    trained = TrainableLevels(books, torch.device("cpu"))
    assert len(trained.members) == 3
    (table,) = trained.tables
    draws = torch.Generator().manual_seed(1)
    factors = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
    found = trained.expand()
    sum((found[name] * factors[name]).sum() for name in SHAPES).backward()  # type: ignore[union-attr]
    levels = books["a"].levels.clone().requires_grad_()
    total = torch.zeros(())
    for name, book in books.items():
        assert found[name].equal(book.expand())
        assert book.scales is not None
        rows = levels[0][book.indices[0].long()].view(len(book.scales), -1) * book.scales[:, None]
        total = total + (rows.view(book.shape) * factors[name]).sum()
    total.backward()
    torch.testing.assert_close(table.grad, levels.grad)
    with torch.no_grad():
        table += 1
    moved = trained.codebooks()
    for name, book in books.items():
        assert moved[name].common
        assert moved[name].levels.equal(book.levels + 1)
        assert moved[name].indices.equal(book.indices)


def test_trained_values_take_the_nearest_vector() -> None:
    books, given = quantized(), weights()
    trained = TrainableLevels(books, torch.device("cpu"), given)
    codes = books["a"].levels[0].double()
    for name, tensor in trained.expand().items():
        scales = books[name].scales
        assert scales is not None
        sizes = torch.where(scales == 0, 1, scales).double()[:, None]
        points = (rows_of(given[name]) / sizes).view(-1, 4)
        chosen = codes[torch.cdist(points, codes).argmin(1)].view(len(sizes), -1)
        expected = (chosen * scales.double()[:, None]).view(tensor.shape)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-6)
    assert trained.rate().item() > 0


@pytest.mark.parametrize(
    ("change", "entry", "message"),
    [
        (None, {}, r"missing: \.levels"),
        (lambda t: t * torch.nan, {}, r"NaN or infinite values in \.levels"),
        (lambda t: torch.cat([t] * 2), {}, r"\.levels, float32 \[2, 16, 4\]"),
        (lambda t: t[:, :7].clone(), {}, "index .* in .; expected indices below its 7"),
        (lambda t: torch.cat([t] * 2, 1), {}, r"a with levels \[1, 32, 4\] and 16 scales"),
        (lambda t: t, {"vector": 2}, r"a\.indices, uint8 \[48\] for uint8 \[96\]"),
        (lambda t: t, {"vector": 2, "bits": 2}, r"with levels \[1, 16, 4\] and 16 scales .* 2 va"),
        (lambda t: t, {"common": False}, r"missing: a\.levels"),
        (lambda t: t, {"common": "a"}, "common"),
    ],
)
def test_damage_is_one_message(
    change: Callable[[Tensor], Tensor] | None, entry: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, quantized(), "none")
    tensors, metadata = read_tensors(path)
    held = {name: tensor.clone() for name, tensor in tensors.items()}
    levels = held.pop(".levels")
    if change is not None:
        held[".levels"] = change(levels)
    metadata["packed"]["a"] |= entry
    write_tensors(path, held, metadata, PACKED)
    with pytest.raises(UserError, match=message):
        read_packed(path)
    if change is None:
        with pytest.raises(UserError, match=r"no \.levels"):
            inspect(path)


def test_inspect_tells_and_counts_them_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = quantized(levels_dtype="float16")
    path = written(tmp_path, books, "none")
    inspect(path)
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert [cells[name][2] for name in SHAPES] == ["network"] * 3
    assert [cells[name][3] for name in SHAPES] == ["1×16×4"] * 3
    # Indices and scales alone; the vectors have a line of their own.
    assert [cells[name][-1] for name in SHAPES] == ["80", "40", "8"]
    assert cells[".levels"][-1] == "128"
    assert "parameters      624" in lines
    assert f"effective bits  {8 * 256 / 624:.4f} a parameter" in lines
    read, _ = read_quantized(path)
    assert effective_bits(read) == 8 * 256 / 624


def test_widths_of_their_own_are_refused() -> None:
    with pytest.raises(UserError, match=r"widths of 1, 2 bits; expected one width"):
        check_widths("model", weights(), method("lloyd"), {"a": 1, "b": 2, "c": None})
    # Vectors are counted over all: 16 for the 12 of `c`, but 156 in all.
    check_widths("model", weights(), method("vector:4"), dict.fromkeys(SHAPES, 1))
    with pytest.raises(UserError, match=r"more codes than vectors: .*2\^8 for 156"):
        check_widths("model", weights(), method("vector:4"), dict.fromkeys(SHAPES, 2))
