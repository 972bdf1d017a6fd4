"""GroupNorm, SiLU and dropout of images in one kernel, channels last, and its gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.dropout import kept_tile
from flowquant.models.kernels.sums import sum_rows


@triton.jit
def _group_total(values, GROUPS: tl.constexpr, WIDE: tl.constexpr):
    """The sum of each group's columns, in the place of every one of them: [GROUPS·WIDE]."""
    total = tl.sum(tl.reshape(values, (GROUPS, WIDE)), 1)
    spread = tl.broadcast_to(total[:, None], (GROUPS, WIDE))
    return tl.reshape(spread, (GROUPS * WIDE,))


@triton.jit
def _columns(each, channels, GROUPS: tl.constexpr, WIDE: tl.constexpr):
    """The channels [GROUPS·WIDE] of this program's groups, and which of them there are."""
    column = tl.arange(0, GROUPS * WIDE)
    channel = (tl.program_id(1) * GROUPS + column // WIDE) * each + column % WIDE
    return channel, (column % WIDE < each) & (channel < channels)


@triton.jit
def _group_norm(
    x,
    added,
    weight,
    bias,
    out,
    means,
    spreads,
    kept_out,
    seeds,
    pixels,
    channels,
    each,
    eps,
    dropout,
    GROUPS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    ADD: tl.constexpr,
    SILU: tl.constexpr,
    DROP: tl.constexpr,
    KEEP: tl.constexpr,
):
    channel, exists = _columns(each, channels, GROUPS, WIDE)
    image = tl.program_id(0)
    base = image.to(tl.int64) * pixels * channels
    offset = tl.zeros((GROUPS * WIDE,), tl.float32)
    if ADD:
        offset = tl.load(added + image * channels + channel, mask=exists, other=0.0).to(tl.float32)
    total = tl.zeros((GROUPS * WIDE,), tl.float32)
    for start in range(0, pixels, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < pixels) & exists[None, :]
        place = base + row[:, None] * channels + channel[None, :]
        total += tl.sum(tl.load(x + place, mask=inside, other=0.0).to(tl.float32), 0)
    count = pixels * each
    mean = _group_total(tl.where(exists, total + pixels * offset, 0.0), GROUPS, WIDE) / count
    total = tl.zeros((GROUPS * WIDE,), tl.float32)
    for start in range(0, pixels, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < pixels) & exists[None, :]
        place = base + row[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        centred = tl.where(inside, value + offset[None, :] - mean[None, :], 0.0)
        total += tl.sum(centred * centred, 0)
    spread = tl.rsqrt(_group_total(total, GROUPS, WIDE) / count + eps)
    if KEEP:
        first = exists & (tl.arange(0, GROUPS * WIDE) % WIDE == 0)
        group = image * (channels // each) + channel // each
        tl.store(means + group, mean, mask=first)
        tl.store(spreads + group, spread, mask=first)
    scale = spread * tl.load(weight + channel, mask=exists, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=exists, other=0.0).to(tl.float32)
    shift += (offset - mean) * scale
    for start in range(0, pixels, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < pixels) & exists[None, :]
        place = base + row[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        value = value * scale[None, :] + shift[None, :]
        if SILU:
            value = value * tl.sigmoid(value)
        if DROP:
            programs = tl.num_programs(1) * (GROUPS * WIDE // 8)
            eighth = tl.program_id(1) * (GROUPS * WIDE // 8) + tl.arange(0, GROUPS * WIDE // 8)
            counter = (image * pixels + row[:, None]) * programs + eighth[None, :]
            kept = kept_tile(tl.load(seeds), counter, dropout)
            value = value * kept / (1 - dropout)
            if KEEP:
                tl.store(kept_out + place, kept.to(tl.int8), mask=inside)
        tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _arrived(
    grad,
    kept_in,
    place,
    inside,
    normed,
    scale,
    shift,
    dropout,
    SILU: tl.constexpr,
    DROP: tl.constexpr,
):
    """The gradient at the norm's output, before SiLU and dropout."""
    arrived = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if DROP:
        arrived *= tl.load(kept_in + place, mask=inside, other=0).to(tl.float32) / (1 - dropout)
    if SILU:
        value = normed * scale[None, :] + shift[None, :]
        gate = tl.sigmoid(value)
        arrived *= gate * (1 + value * (1 - gate))
    return arrived


@triton.jit
def _group_norm_backward(
    x,
    added,
    grad,
    weight,
    bias,
    means,
    spreads,
    of_x,
    of_added,
    sums,
    kept_in,
    pixels,
    channels,
    each,
    dropout,
    GROUPS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    ADD: tl.constexpr,
    SILU: tl.constexpr,
    DROP: tl.constexpr,
):
    channel, exists = _columns(each, channels, GROUPS, WIDE)
    image = tl.program_id(0)
    base = image.to(tl.int64) * pixels * channels
    group = image * (channels // each) + channel // each
    mean = tl.load(means + group, mask=exists, other=0.0)
    spread = tl.load(spreads + group, mask=exists, other=0.0)
    scale = tl.load(weight + channel, mask=exists, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=exists, other=0.0).to(tl.float32)
    if ADD:
        mean -= tl.load(added + image * channels + channel, mask=exists, other=0.0).to(tl.float32)
    sum_weight = tl.zeros((GROUPS * WIDE,), tl.float32)
    sum_bias = tl.zeros((GROUPS * WIDE,), tl.float32)
    for start in range(0, pixels, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < pixels) & exists[None, :]
        place = base + row[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        normed = (value - mean[None, :]) * spread[None, :]
        arrived = _arrived(grad, kept_in, place, inside, normed, scale, shift, dropout, SILU, DROP)
        sum_weight += tl.sum(arrived * normed, 0)
        sum_bias += tl.sum(arrived, 0)
    own = image * 2 * channels + channel
    tl.store(sums + own, sum_weight, mask=exists)
    tl.store(sums + own + channels, sum_bias, mask=exists)
    count = pixels * each
    first = _group_total(sum_bias * scale, GROUPS, WIDE) / count
    second = _group_total(sum_weight * scale, GROUPS, WIDE) / count
    sum_added = tl.zeros((GROUPS * WIDE,), tl.float32)
    for start in range(0, pixels, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < pixels) & exists[None, :]
        place = base + row[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        normed = (value - mean[None, :]) * spread[None, :]
        arrived = _arrived(grad, kept_in, place, inside, normed, scale, shift, dropout, SILU, DROP)
        passed = arrived * scale[None, :] - first[None, :] - normed * second[None, :]
        passed = tl.where(inside, passed * spread[None, :], 0.0)
        tl.store(of_x + place, passed.to(of_x.dtype.element_ty), mask=inside)
        sum_added += tl.sum(passed, 0)
    if ADD:
        own = image * channels + channel
        tl.store(of_added + own, sum_added.to(of_added.dtype.element_ty), mask=exists)


# Columns and rows of a tile, at least and at most, and warps.
COLUMNS, VALUES, WARPS = 64, 4096, 4


def _launch(x: Tensor, groups: int) -> tuple[tuple[int, int], tuple[int, int, int], dict[str, int]]:
    """Grid, (pixels, channels, channels a group), and a tile's measures."""
    count, channels, height, width = x.shape
    each = channels // groups
    wide = triton.next_power_of_2(each)
    # Eight columns at least: dropout draws for as many at a time.
    beside = max(1, 8 // wide, min(COLUMNS // wide, triton.next_power_of_2(groups)))
    rows = min(triton.next_power_of_2(height * width), max(1, VALUES // (beside * wide)))
    tile = {"GROUPS": beside, "WIDE": wide, "ROWS": rows, "num_warps": WARPS}
    return (count, triton.cdiv(groups, beside)), (height * width, channels, each), tile


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    silu: bool,
    added: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    moments: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """dropout(SiLU(GroupNorm(x + added))), in float32 inside.

    Args:
        x: Images [B, C, H, W], contiguous with channels last.
        groups: Of channels; divides C.
        weight: Scale [C].
        bias: Shift [C].
        eps: Added to the variance.
        silu: Whether SiLU follows the norm.
        added: What each image's channels get before the norm, contiguous [B, C]; None for nothing.
        dropout: Of the result.
        seed: Of the dropout, int64 [1] on the device.
        moments: Where to keep means and inverse deviations, float32 [2, B, groups], for the
            backward pass, if anywhere.
        kept: Where to keep which values dropout kept, int8 [B, C, H, W] channels last, likewise.

    Returns:
        [B, C, H, W] of x's type, channels last.
    """
    out = torch.empty_like(x)
    grid, sizes, tile = _launch(x, groups)
    means, spreads = (None, None) if moments is None else moments.unbind()
    _group_norm[grid](
        *(x, added, weight, bias, out, means, spreads, kept, seed, *sizes, eps, dropout),
        ADD=added is not None,
        SILU=silu,
        DROP=dropout > 0,
        KEEP=moments is not None,
        **tile,
    )
    return out


def group_norm_backward(
    x: Tensor,
    grad: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    moments: Tensor,
    silu: bool,
    added: Tensor | None = None,
    dropout: float = 0.0,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradient of `group_norm`: of its output → of x, weight and bias [C], and added [B, C]."""
    of_x = torch.empty_like(x)
    of_added = None if added is None else torch.empty_like(added)
    grid, sizes, tile = _launch(x, groups)
    sums = torch.empty(len(x), 2 * x.shape[1], dtype=torch.float32, device=x.device)
    _group_norm_backward[grid](
        *(x, added, grad, weight, bias, *moments.unbind(), of_x, of_added, sums, kept),
        *(*sizes, dropout),
        ADD=added is not None,
        SILU=silu,
        DROP=dropout > 0,
        **tile,
    )
    of_weight, of_bias = sum_rows(sums, weight.dtype).view(2, -1)
    return of_x, of_weight, of_bias, of_added
