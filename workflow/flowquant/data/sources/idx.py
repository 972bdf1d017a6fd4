"""IDX files, the format of MNIST and Fashion-MNIST, raw or gzipped."""

import gzip
import hashlib
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import IdxSource
from flowquant.data.archive import CHUNK
from flowquant.data.dataset import Split, check_fits, write_dataset
from flowquant.data.download import download
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import regular

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx(
    output: Path,
    data_root: Path,
    source: IdxSource,
    image: ImageConfig,
    condition: ConditionConfig,
    threads: int = 1,
) -> None:
    """Read four IDX files, downloading those that are missing, and write the dataset.

    Args:
        output: The dataset file to write.
        data_root: Folder of all original data.
        source: Where in it the files lie, raw or gzipped, under their official names; where to get
            missing ones, and what they must be.
        image: What the images must be.
        condition: What the labels must be.
        threads: Not used: there is nothing to decode.

    Raises:
        UserError: if a file is missing, malformed or has another SHA-256.
    """
    root = data_root / source.folder
    tensors = {}
    for part, name in FILES.items():
        path = find(root, name, source.urls)
        dimensions = 3 if part.endswith("images") else 1
        tensors[part] = read(path, dimensions, getattr(source.sha256, part))
    splits = {}
    for part in ("train", "test"):
        images, labels = tensors[f"{part}_images"], tensors[f"{part}_labels"]
        if len(images) != len(labels):
            raise UserError(
                root / FILES[f"{part}_labels"],
                found=f"{len(labels)} labels for {len(images)} images",
                expected="one label an image",
                remedy="Take both files from the same dataset.",
            )
        split = Split(images[:, None], labels.long())
        check_fits(root / FILES[f"{part}_images"], split, image, condition)
        splits[part] = split
    provenance = {"source": f"IDX files of {source.folder}"}
    write_dataset(output, splits["train"], splits["test"], image, condition, provenance)


def find(folder: Path, name: str, urls: tuple[str, ...]) -> Path:
    """The file ``name`` in ``folder``, raw or gzipped; downloaded if there is neither."""
    for path in (folder / name, folder / f"{name}.gz"):
        if regular(path).is_file():
            return path
    path = folder / f"{name}.gz"
    download(tuple(f"{url.rstrip('/')}/{path.name}" for url in urls), path)
    return path


def read(path: Path, dimensions: int, digest: str | None) -> Tensor:
    """The uint8 array of an IDX file, raw or gzipped; no more is read than its header declares.

    Format: 0, 0, type (8 = unsigned byte), number of dimensions, each size as a big-endian
    32-bit integer, then the values, the last index fastest.

    Raises:
        UserError: if the format or the number of dimensions differs, the file is damaged, cut off
            or longer than declared, or its content has another SHA-256 than ``digest``.
    """
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if gzipped else path.open("rb") as content:
            header = content.read(4 + 4 * dimensions)
            sizes = _sizes(path, header, dimensions)
            values = _at_most(content, math.prod(sizes) + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            path,
            found=f"damaged gzip data ({error})",
            expected="a whole gzip file",
            remedy="Delete the file to have it downloaded again, or copy it anew.",
        ) from error
    declared, shape = math.prod(sizes), " × ".join(map(str, sizes))
    if len(values) != declared or not declared:
        raise UserError(
            path,
            found=f"{len(values):,} values" if len(values) <= declared else "more values",
            expected=f"{declared:,} ({shape}, as its header says)" if declared else "some",
            remedy="The file is cut off or has been added to: copy or download it anew.",
        )
    _check_digest(path, header, values, digest)
    return torch.from_numpy(np.frombuffer(values, np.uint8).reshape(sizes))


def _sizes(path: Path, header: bytes, dimensions: int) -> list[int]:
    """The sizes that an IDX file's header declares; raises as `read`."""
    magic = bytes([0, 0, 8, dimensions])
    if header[:4] != magic or len(header) < 4 + 4 * dimensions:
        raise UserError(
            path,
            found=f"a file that starts with {header[:4].hex(' ') or 'nothing'}",
            expected=f"an IDX file of bytes in {dimensions} dimensions, starting {magic.hex(' ')}",
            remedy="Check that the right file has this name.",
        )
    return [int(size) for size in np.frombuffer(header[4:], dtype=">u4")]


def _at_most(file: BufferedIOBase, most: int) -> bytearray:
    """What is left of a file, up to ``most`` bytes; memory grows with what there is."""
    content = bytearray()
    while len(content) < most and (more := file.read(min(CHUNK, most - len(content)))):
        content += more
    return content


def _check_digest(path: Path, header: bytes, values: bytearray, digest: str | None) -> None:
    """Refuse content with another SHA-256, if one is given."""
    if digest is None:
        return
    whole = hashlib.sha256(header)
    whole.update(values)
    if (found := whole.hexdigest()) != digest:
        raise UserError(
            path,
            found=f"content with SHA-256 {found}",
            expected=f"SHA-256 {digest}",
            remedy="This is not the official file: delete it to have it downloaded again, or "
            "give your own data a preset of its own, without `sha256`.",
        )
