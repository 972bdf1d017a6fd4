"""Vectors by k-means against POT's exact W₂, and codebooks with a scale for each row."""

from collections.abc import Callable
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
from flowquant.quantization.apply import check_widths, quantize_tensor
from flowquant.quantization.codebook import Codebook, bits_of
from flowquant.quantization.packed_file import PackedTensor, read_packed, write_quantized
from flowquant.quantization.packed_header import PACKED
from flowquant.quantization.packed_network import PackedWeight
from flowquant.quantization.packing import unpack
from flowquant.quantization.search import nearest_vectors
from flowquant.quantization.vectors import vector_means
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_tensors, write_tensors


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(rows: int, columns: int) -> Tensor:
    """Rows of very different size, one of them zero."""
    scales = torch.logspace(-2, 1, rows)[:, None]
    scales[rows // 2] = 0
    return draws(rows, columns) * scales


def method(levels: str, granularity: str = "scaled", **more: Any) -> MethodConfig:
    return MethodConfig(levels=levels, granularity=granularity, levels_dtype="float16", **more)


def share_lost(weight: Tensor, book: Codebook) -> float:
    return ((book.expand() - weight).square().sum() / weight.square().sum()).item()


@pytest.mark.parametrize("d", [2, 3, 4])
def test_the_squared_error_is_the_exact_transport(d: int) -> None:
    values = draws(1, 60 * d, seed=d)
    vectors, indices = vector_means(values, 8, d)
    points, codes = values.view(-1, d).double().numpy(), vectors[0].double().numpy()
    masses = np.bincount(indices[0].numpy(), minlength=8) / 60
    distances = ot.dist(points, codes)
    exact = ot.emd2(np.full(60, 1 / 60), masses, distances)
    error = ((points - codes[indices[0].numpy()]) ** 2).sum(1).mean()
    assert error == pytest.approx(exact, rel=1e-5)
    # The nearest measure on these points, whatever its masses; and a bound from below, cheaply.
    assert error == pytest.approx(distances.min(1).mean(), rel=1e-5)
    moved = codes[indices[0].numpy()]
    assert ot.sliced.sliced_wasserstein_distance(points, moved, seed=0) ** 2 <= error
    # Each code is the mean of what it stands for: no other points are better for these clusters.
    for code in range(8):
        np.testing.assert_allclose(codes[code], points[indices[0].numpy() == code].mean(0), 1e-4)


def test_few_points_get_nearly_the_best_clusters() -> None:
    from sklearn.cluster import KMeans

    for seed in range(5):
        points = draws(400, 2, seed=seed)
        vectors, indices = vector_means(points.view(1, -1), 8, 2)
        error = (points - vectors[0][indices[0].long()]).square().sum().item()
        best = KMeans(8, n_init=10, random_state=0).fit(points.numpy()).inertia_
        assert error < 1.12 * best


@pytest.mark.parametrize(("d", "bits", "most"), [(4, 2, 0.0985), (8, 1, 0.326), (2, 2, 0.112)])
def test_a_gaussian_loses_what_is_known(d: int, bits: int, most: float) -> None:
    weight = draws(256, 384)
    book = quantize_tensor(weight, method(f"vector:{d}"), bits)
    assert book.levels.shape == (1, 2 ** (bits * d), d)
    assert book.indices.shape == (1, weight.numel() // d)
    lost = share_lost(weight, book)
    assert lost < 1.01 * most
    assert lost > 4.0**-bits
    side = (16 * 256 + 16 * d * 2 ** (bits * d)) / weight.numel()
    assert bits_of(book) / weight.numel() == pytest.approx(bits + side)


def test_nearest_vectors_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, vectors = draws(2, 50, 3), draws(2, 9, 3, seed=1)
    expected = torch.cdist(values, vectors).argmin(2).int()
    for most in (1 << 24, 63):
        monkeypatch.setattr("flowquant.quantization.search.MOST_DISTANCES", most)
        assert nearest_vectors(values, vectors).equal(expected)


def test_vectors_come_out_the_same_and_none_is_idle() -> None:
    values = torch.cat([torch.zeros(1, 300), draws(1, 300)], dim=1)
    first, second = (vector_means(values, 16, 2) for _ in range(2))
    assert first[0].equal(second[0])
    assert first[1].equal(second[1])
    # All zeros are one vector; the others are not left to it.
    assert len(first[1].unique()) == 16


@pytest.mark.parametrize("levels", ["lloyd", "uniform", "equal_mass", "vector:4", "entropy:0.2"])
def test_scales_follow_their_rows(levels: str) -> None:
    weight = uneven(24, 64)
    coding = "ans" if levels.startswith("entropy") else "none"
    book = quantize_tensor(weight, method(levels, coding=coding), 2)
    assert book.scales is not None
    assert book.scales.dtype == book.levels.dtype == torch.float16
    assert len(book.levels) == 1
    assert bool((book.expand()[12] == 0).all())
    # Of all factors of a row's levels, this one loses least.
    chosen = replace_scales(book, torch.ones(24)).expand().double()
    best = ((weight * chosen).sum(1) / chosen.square().sum(1)).nan_to_num(0)
    torch.testing.assert_close(book.scales.double(), best, rtol=1e-3, atol=1e-4)
    if levels == "lloyd":
        plain = quantize_tensor(weight, method(levels, "tensor"), 2)
        assert share_lost(weight, book) < 0.6 * share_lost(weight, plain)


def replace_scales(book: Codebook, scales: Tensor) -> Codebook:
    return Codebook(book.levels, book.indices, book.shape, book.coding, scales)


def test_a_scale_a_row_is_a_quarter_of_four_levels() -> None:
    weight = draws(384, 384)
    sizes = [
        bits_of(quantize_tensor(weight, method("lloyd", kind), 2)) / weight.numel()
        for kind in ("scaled", "row")
    ]
    assert sizes == pytest.approx([2.042, 2.167], abs=1e-3)


def test_a_tensor_of_one_dimension_is_a_row() -> None:
    book = quantize_tensor(draws(300), method("lloyd"), 2)
    assert book.scales is not None
    assert book.scales.shape == (1,)


CASES = {
    "scaled": ("lloyd", 3, "none"),
    "coded": ("lloyd", 3, "ans"),
    "priced": ("entropy:0.3", 5, "ans"),
    "vectors": ("vector:4", 1, "none"),
    "coded vectors": ("vector:2", 3, "ans"),
    "odd vectors": ("vector:3", 2, "none"),
}


@pytest.fixture(params=CASES)
def book(request: pytest.FixtureRequest) -> Codebook:
    levels, bits, coding = CASES[request.param]
    return quantize_tensor(uneven(48, 96), method(levels, coding=coding), bits)


def written(path: Path, content: Codebook | PackedTensor) -> tuple[PackedTensor, dict[str, Any]]:
    about = {"levels": "any", "granularity": "scaled", "scope": "all", "coding": content.coding}
    write_quantized(path, {"w": content}, {"method": about, "bits": None})
    contents, metadata = read_packed(path)
    assert isinstance(contents["w"], PackedTensor)
    return contents["w"], metadata


def test_the_file_holds_the_same_codebook(book: Codebook, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    packed, metadata = written(path, book)
    found = packed.unpack()
    assert book.scales is not None
    assert found.scales is not None
    assert found.scales.equal(book.scales)
    assert found.levels.equal(book.levels)
    assert found.indices.equal(book.indices)
    assert found.expand().equal(book.expand())
    assert metadata["version"] == 2
    stored = sum(8 * t.numel() * t.element_size() for t in load_file(path).values())
    assert stored == bits_of(book) == bits_of(packed)
    assert metadata["effective_bits"] == stored / book.expand().numel()
    written(tmp_path / "again.safetensors", packed)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_the_file_is_as_documented(tmp_path: Path) -> None:
    """Value i by docs/format.md, from the tensors as they lie in the file."""
    book = quantize_tensor(uneven(6, 12), method("vector:3"), 1)
    written(tmp_path / "w.safetensors", book)
    tensors, metadata = read_tensors(tmp_path / "w.safetensors")
    entry = metadata["packed"]["w"]
    assert (entry["vector"], entry["scales"]) == (3, 6)
    indices = unpack(tensors["w.indices"], entry["bits"], 24).tolist()
    levels, scales = tensors["w.levels"].float(), tensors["w.scales"].float()
    expected = book.expand().flatten()
    for i in range(72):
        assert scales[i // 12] * levels[0, indices[i // 3], i % 3] == expected[i]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [40, 1 << 16])
def test_packed_in_memory_it_is_the_same_weight(
    book: Codebook, dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowquant.quantization.packed_network.CHUNK", chunk)
    weight = PackedWeight(PackedTensor.of(book))
    assert weight.expand(dtype).equal(book.expand().to(dtype))
    layer = nn.Linear(96, 48, bias=False)
    del layer.weight
    layer.weight = weight  # type: ignore[assignment]
    x = draws(5, 96)
    assert layer(x).equal(torch.nn.functional.linear(x, book.expand()))


@pytest.mark.parametrize("levels", ["lloyd", "vector:4"])
def test_any_module_with_convolutions(levels: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 2))
    given = {"vector": 4} if levels == "vector:4" else levels
    small = flowquant.quantize(network, 1, levels=given, granularity="scaled")
    path = tmp_path / "small.safetensors"
    flowquant.save(small, path)
    blank = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 2))
    x = draws(2, 8, 6, 6)
    for packed in (False, True):
        found = flowquant.load(path, into=blank, packed=packed)
        torch.testing.assert_close(found(x), small(x))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("scales", lambda t: t[:-1].clone(), r"w.scales, float16 \[47\] for .* \[48\]"),
        ("scales", lambda t: t * torch.nan, r"NaN or infinite values in w\.scales"),
        ("levels", lambda t: t[..., :-1].clone(), r"w\.levels, float16 \[1, 16, 3\]"),
        ("levels", lambda t: t[:, :7].clone(), "index .* in w; expected indices below its 7"),
        ("levels", lambda t: torch.cat([t] * 2, 1), r"w with levels \[1, 32, 4\] and 48 scales"),
        ("levels", lambda t: torch.cat([t] * 5), r"w with levels \[5, 16, 4\] and 48 scales"),
    ],
)
def test_damage_is_one_message(
    part: str, change: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    written(path, quantize_tensor(uneven(48, 96), method("vector:4"), 1))
    tensors, metadata = read_tensors(path)
    held = {n: change(t) if n == f"w.{part}" else t.clone() for n, t in tensors.items()}
    write_tensors(path, held, metadata, PACKED)
    with pytest.raises(UserError, match=message):
        read_packed(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [({"vector": 5}, r"w\.levels"), ({"scales": 7}, r"w\.scales"), ({"vector": 0}, "vector")],
)
def test_an_entry_that_does_not_fit_is_one_message(
    entry: dict[str, int], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    written(path, quantize_tensor(uneven(48, 96), method("vector:4"), 1))
    tensors, metadata = read_tensors(path)
    metadata["packed"]["w"] |= entry
    write_tensors(path, {n: t.clone() for n, t in tensors.items()}, metadata, PACKED)
    with pytest.raises(UserError, match=message):
        read_packed(path)


@pytest.mark.parametrize(
    ("shape", "d", "bits", "message"),
    [
        ((64, 30), 4, 1, r"rows that 4 does not divide: w; expected vectors of 4 neighbours"),
        ((8, 16), 4, 2, r"more codes than vectors: w, 2\^8 for 32"),
        ((640, 640), 8, 3, r"codes of more than 16 bits: w, 3·8"),
    ],
)
def test_what_cannot_be_vectors_is_one_message(
    shape: tuple[int, int], d: int, bits: int, message: str
) -> None:
    weights = {"w": torch.zeros(shape), "b": torch.zeros(3)}
    with pytest.raises(UserError, match=message):
        check_widths("model", weights, method(f"vector:{d}"), {"w": bits, "b": None})
    module = nn.Linear(shape[1], shape[0])
    # What no module can have is refused before any is looked at.
    if bits * d > 16:
        message = r"bits: found 3; expected bits·8 to be a whole number from 1 to 16"
    with pytest.raises(UserError, match=message.replace(": w", ": weight")):
        flowquant.quantize(module, bits, levels={"vector": d}, granularity="scaled")
    # Levels of single values are not asked.
    check_widths("model", weights, method("lloyd"), {"w": bits})
