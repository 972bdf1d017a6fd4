"""From image files to arrays: any format, the right pixels, bad ones named."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from flowquant.data.archive import Entry
from flowquant.data.decode import Recipe, decode, decode_all, decode_entries
from image_files import encoded, write_folder


def saved(image: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_format(kind: str, channels: Literal[1, 3]) -> None:
    pixels = decode(encoded(0, kind=kind), Recipe(channels, 8))
    assert pixels.shape == (channels, 8, 8)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 10


def test_crop_and_resize_are_torchvisions() -> None:
    # Imports Triton, which must not be loaded before the kernels' tests have set it up.
    from torchvision.transforms import v2

    content = encoded(1, (178, 218), "JPEG")
    image = Image.open(io.BytesIO(content))
    reference = v2.Compose([v2.CenterCrop(178), v2.Resize(64), v2.PILToTensor()])(image)
    assert torch.equal(torch.from_numpy(decode(content, Recipe(3, 64, crop=178)).copy()), reference)


def test_resizing_is_antialiased() -> None:
    """A fine chequerboard becomes even grey, and not the white or black of some of its pixels."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = decode(saved(Image.fromarray(board.astype(np.uint8))), Recipe(1, 8))
    assert (abs(pixels.astype(int) - 127) <= 6).all()


def test_without_crop_the_largest_square_of_the_centre() -> None:
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = 200
    assert (decode(saved(Image.fromarray(wide)), Recipe(3, 4)) == 200).all()


def test_images_of_the_right_size_are_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = decode(saved(Image.fromarray(pixels)), Recipe(3, 32))
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


def test_grey_becomes_rgb_and_rgb_grey() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = decode(saved(Image.fromarray(grey)), Recipe(3, 8))
    assert all(np.array_equal(channel, grey) for channel in found)
    back = decode(saved(Image.fromarray(found.transpose(1, 2, 0))), Recipe(1, 8))
    assert np.array_equal(back[0], grey)


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    assert np.array_equal(decode(saved(Image.fromarray(deep)), Recipe(1, 8))[0], deep >> 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_white(mode: str) -> None:
    image = Image.new(mode, (8, 8), (10, 10, 10, 0) if mode == "RGBA" else (10, 0))
    assert (decode(saved(image), Recipe(3, 8)) == 255).all()


def test_palettes() -> None:
    image = Image.fromarray(np.full((8, 8, 3), (250, 0, 0), np.uint8)).quantize(4)
    assert decode(saved(image), Recipe(3, 8))[:, 0, 0].tolist() == [250, 0, 0]


def test_photographs_are_turned_upright() -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = 255  # a white first row
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: the row becomes the last column
    found = decode(saved(Image.fromarray(pixels), exif=exif), Recipe(1, 8))
    assert (found[0, :, -1] == 255).all()
    assert (found[0, :, 0] == 0).all()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(3, 8, least_side=11), "12×10 pixels, under 11"),
        (Recipe(3, 8, crop=11), "12×10 pixels, under 11"),
    ],
)
def test_too_small(recipe: Recipe, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(encoded(0, (12, 10)), recipe)


def test_bad_images_are_named_and_the_others_kept(tmp_path: Path) -> None:
    whole = encoded(3, (64, 64), "JPEG")
    contents = {
        "0 whole.jpg": whole,
        "1 truncated.jpg": whole[: len(whole) // 2],
        "2 empty.jpg": b"",
        "3 text.jpg": b"not an image at all",
        "4 truncated.png": encoded(4, (64, 64))[:-300],
        "5 whole.png": encoded(5),
    }
    write_folder(tmp_path, contents)
    entries = [Entry(name, str(tmp_path / name)) for name in [*contents, "6 absent.png"]]
    found = decode_entries(entries, Recipe(3, 8))
    assert found.good.tolist() == [True, False, False, False, False, True, False]
    assert len(found.pixels) == 2
    assert [fault[0] for fault in found.bad] == list("12346")
    assert "truncated" in found.bad[0]
    assert found.bad[2] == "3 text.jpg (no image)"
    assert not any("0x" in fault for fault in found.bad)


@pytest.mark.parametrize("processes", [1, 3])
def test_order_does_not_depend_on_the_processes(tmp_path: Path, processes: int) -> None:
    write_folder(tmp_path, {f"{i}.png": encoded(i) for i in range(150)})
    entries = [Entry(f"{i}.png", str(tmp_path / f"{i}.png")) for i in range(150)]
    found = list(decode_all(entries, Recipe(3, 8), processes))
    pixels = np.concatenate([part.pixels for part in found])
    assert np.array_equal(pixels, decode_entries(entries, Recipe(3, 8)).pixels)


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_images_of_too_many_pixels_are_not_decoded(side: int) -> None:
    """By what the file's header says: there are no pixels in these."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    content = b"\x89PNG\r\n\x1a\n"
    content += chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with warnings.catch_warnings(record=True) as said, pytest.raises(Exception, match=f"{side**2}"):
        decode(content, Recipe(3, 8))
    assert not said
