"""Each peer's program, where its package is installed: its bytes by hand, its errors by sense."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor

from flowquant.quantization.peer import Counts, quantize_by_peer
from project import ROOT

PROGRAMS = ROOT / "workflow/peers"
PACKAGES = {
    "hqq": "hqq",
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
    "quanto": "optimum",
    "sdnq": "sdnq",
}


def matrices() -> dict[str, Tensor]:
    """Rows that groups of 64 divide, a kernel whose rows they do not, rows that nothing divides."""
    draws = torch.Generator().manual_seed(0)
    shapes = {"wide": (96, 256), "kernel": (32, 16, 3, 3), "odd": (10, 27)}
    return {name: torch.randn(shape, generator=draws) for name, shape in shapes.items()}


@cache
def made_by(peer: str, *words: str) -> tuple[dict[str, Tensor], Counts]:
    if find_spec(PACKAGES[peer]) is None:
        pytest.skip(f"{peer} is not installed: envs/requirements-peers.txt")
    with TemporaryDirectory() as folder:
        program = PROGRAMS / f"by_{peer}.py"
        return quantize_by_peer(program, matrices(), words, Path(folder, "x"))


def error_of(peer: str, name: str, *words: str) -> float:
    """Mean squared error of a tensor of standard normal values."""
    values, _ = made_by(peer, *words)
    return float((values[name] - matrices()[name]).square().mean())


def bits_of(peer: str, name: str, *words: str) -> float:
    parts = made_by(peer, *words)[1].tensors[name]
    return 8 * sum(parts.values()) / matrices()[name].numel()


def test_nf4_is_four_bits_and_a_float_for_64() -> None:
    assert bits_of("bitsandbytes", "wide", "--bits=4") == 4 + 32 / 64
    # 8 bits for 64, a float for 256 of these, and one offset.
    blocks = 96 * 256 // 64
    expected = 4 + (8 * blocks + 32 * ceil(blocks / 256) + 32) / (96 * 256)
    assert bits_of("bitsandbytes", "wide", "--bits=4", "--double") == expected


def test_hqq_is_its_codes_and_two_half_floats_a_group() -> None:
    for bits in (2, 4):
        assert bits_of("hqq", "wide", f"--bits={bits}") == bits + 2 * 16 / 64
    # Ten 3-bit codes lie in 32 bits, the last of 384 groups with padding.
    assert bits_of("hqq", "wide", "--bits=3") == 32 * ceil(384 / 10) / 384 + 2 * 16 / 64
    # Ten rows, which it does not pack by fours.
    assert bits_of("hqq", "odd", "--bits=2") == 8 * (ceil(270 * 2 / 8) + 10 * 2 * 2) / 270


def test_quanto_chooses_groups_of_128_where_they_divide_a_row() -> None:
    assert bits_of("quanto", "wide", "--bits=4") == 4 + 2 * 16 / 128
    assert bits_of("quanto", "wide", "--bits=8") == 8 + 16 / 256


def test_torchao_is_codes_half_scales_and_byte_zeros() -> None:
    assert bits_of("torchao", "wide", "--bits=4", "--group=64") == 4 + (16 + 8) / 64
    assert bits_of("torchao", "wide", "--bits=8", "--group=64") == 8 + (32 + 8) / 64


def test_sdnq_counts_float_scales_codebooks_and_low_rank() -> None:
    low_rank = bits_of("sdnq", "wide", "--bits=4", "--group=64", "--rank=8")
    assert low_rank == 4 + 2 * 32 / 64 + 16 * 8 * (96 + 256) / (96 * 256)
    assert bits_of("sdnq", "wide", "--bits=2", "--codebook", "--group=256") == 2 + 4 * 32 / 256
    # It packs by eights.
    assert bits_of("sdnq", "odd", "--bits=2", "--codebook", "--group=256") == 16


@pytest.mark.parametrize(
    ("peer", "words", "least", "most"),
    [
        ("hqq", ("--bits=2",), 0.08, 0.25),
        ("hqq", ("--bits=3",), 0.02, 0.05),
        ("hqq", ("--bits=4",), 0.004, 0.01),
        ("bitsandbytes", ("--bits=4",), 0.004, 0.012),
        ("bitsandbytes", ("--bits=4", "--double"), 0.004, 0.012),
        ("torchao", ("--bits=4", "--group=64"), 0.004, 0.015),
        ("torchao", ("--bits=8", "--group=64"), 1e-5, 1e-4),
        ("quanto", ("--bits=4",), 0.004, 0.015),
        ("quanto", ("--bits=8",), 1e-5, 1e-4),
        ("sdnq", ("--bits=4", "--group=64", "--rank=8"), 0.004, 0.015),
        ("sdnq", ("--bits=2", "--codebook", "--group=256"), 0.08, 0.13),
    ],
)
def test_values_are_as_near_as_they_should_be(
    peer: str, words: tuple[str, ...], least: float, most: float
) -> None:
    """A normal variable's least error is .1175, .0345 and .0095 at 2, 3 and 4 bits (Max 1960);
    groups of fewer values may do better. In every shape: blocks may run over the ends of rows."""
    assert error_of(peer, "wide", *words) > least
    for name in matrices():
        assert error_of(peer, name, *words) < most, name


def test_a_codebook_has_as_many_values_as_it_says() -> None:
    values, _ = made_by("sdnq", "--bits=2", "--codebook", "--group=256")
    assert all(len(row.unique()) <= 4 for row in values["wide"])


def test_programs_say_whose_version_they_are() -> None:
    for peer, words in (("hqq", "--bits=4"), ("bitsandbytes", "--bits=4")):
        _, counts = made_by(peer, words)
        assert re.fullmatch(rf"{peer} [0-9][0-9a-z.]+", counts.package)


def test_no_program_imports_this_package_and_it_none_of_them() -> None:
    peers = "|".join(PACKAGES.values())
    for path in PROGRAMS.glob("*.py"):
        assert not re.search(r"^\s*(import|from) flowquant", path.read_text(), re.M)
    for path in (ROOT / "workflow/flowquant").rglob("*.py"):
        assert not re.search(rf"^\s*(import|from) ({peers})\b", path.read_text(), re.M), path
