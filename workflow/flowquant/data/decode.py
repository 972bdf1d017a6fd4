"""Image files of any format to uint8 arrays of one size, on all processor cores."""

import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flowquant.data.archive import Entry
from flowquant.runtime.errors import UserError
from flowquant.runtime.processes import follow_parent

# Files that a process decodes at a time.
CHUNK = 64


@dataclass(frozen=True)
class Recipe:
    """How an image file is decoded: to 1 (grey) or 3 (RGB) channels of ``size`` × ``size`` pixels.

    Before resizing, the square of ``crop`` pixels is cut from the centre; None: the largest there
    is. An image is refused whose shorter side is less than ``least_side`` pixels.
    """

    channels: int
    size: int
    crop: int | None = None
    least_side: int = 1


@dataclass(frozen=True)
class Decoded:
    """Some images in order, uint8 [n, C, size, size], without those that could not be decoded.

    ``good`` says which of the entries these are, bool [N]; ``bad`` is name and fault of each other
    one.
    """

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    good: np.ndarray[Any, np.dtype[np.bool_]]
    bad: list[str]


def decode(content: bytes, recipe: Recipe) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode, turn upright, cut out the centre and resize one image; uint8 [C, size, size].

    Resizing is bilinear over the whole area that a pixel comes from (anti-aliased), as
    torchvision does it. Transparent pixels become white; of several frames the first is taken.

    Raises:
        Exception: whatever Pillow raises on a damaged file or one of too many pixels; ValueError on
            one too small.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            image = _opaque(opened)
    mode = "L" if recipe.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    shorter = min(image.size)
    least = max(recipe.least_side, recipe.crop or 1)
    if shorter < least:
        raise ValueError(f"{image.width}×{image.height} pixels, under {least}")
    side = recipe.crop or shorter
    # The centre as torchvision rounds it, so that CelebA's crop is the reference's.
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    image = image.crop((left, top, left + side, top + side))
    if side != recipe.size:
        image = image.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(recipe.size, recipe.size, recipe.channels)
    return pixels.transpose(2, 0, 1)


def _opaque(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel and on white."""
    if image.mode.startswith("I;16"):
        # Pillow clips these when it converts them.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image


def decode_entries(entries: Sequence[Entry], recipe: Recipe) -> Decoded:
    """Decode some files, one after another."""
    pixels, bad = [], []
    good = np.zeros(len(entries), dtype=bool)
    for index, entry in enumerate(entries):
        try:
            pixels.append(decode(entry.read(), recipe))
            good[index] = True
        except Exception as error:  # whatever a damaged file makes a parser raise
            bad.append(f"{entry.name} ({_plain(error)})")
    shape = (0, recipe.channels, recipe.size, recipe.size)
    return Decoded(np.stack(pixels) if pixels else np.empty(shape, np.uint8), good, bad)


def _plain(error: Exception) -> str:
    """An exception in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "no image"  # Pillow would name the memory that the bytes lie in
    return str(error).partition("\n")[0] or type(error).__name__


def decode_all(entries: Sequence[Entry], recipe: Recipe, processes: int) -> Iterator[Decoded]:
    """Decode files in order, a bounded number in advance.

    ``processes`` share the work; 0: one for each core there is.

    Raises:
        UserError: if a process was killed.
    """
    processes = processes or len(os.sched_getaffinity(0))
    chunks = (entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK))
    if processes == 1 or len(entries) <= CHUNK:
        yield from (decode_entries(chunk, recipe) for chunk in chunks)
        return
    with ProcessPoolExecutor(processes, initializer=follow_parent) as pool:
        try:
            waiting: deque[Future[Decoded]] = deque()
            waiting.extend(
                pool.submit(decode_entries, chunk, recipe)
                for chunk in islice(chunks, 4 * processes)
            )
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(
                    pool.submit(decode_entries, chunk, recipe) for chunk in islice(chunks, 1)
                )
        except BrokenProcessPool as error:
            raise UserError(
                "decoding",
                found="a process that was killed",
                expected=f"{processes} running processes",
                remedy="Most often memory ran out: use fewer cores (`--cores`).",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
