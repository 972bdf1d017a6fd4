"""IDX files, the format of MNIST and Fashion-MNIST, raw or gzipped."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import IdxSource
from flowquant.data.dataset import Split, check_fits, write_dataset
from flowquant.data.download import download
from flowquant.runtime.errors import UserError

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
        content = read_bytes(path)
        _check_digest(path, content, getattr(source.sha256, part))
        tensors[part] = parse(path, content, dimensions=3 if part.endswith("images") else 1)
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
        if path.is_file():
            return path
    path = folder / f"{name}.gz"
    download(tuple(f"{url.rstrip('/')}/{path.name}" for url in urls), path)
    return path


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed if it is gzipped.

    Raises:
        UserError: if the compressed data are damaged.
    """
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            path,
            found=f"damaged gzip data ({error})",
            expected="a whole gzip file",
            remedy="Delete the file to have it downloaded again, or copy it anew.",
        ) from error


def parse(path: Path, content: bytes, dimensions: int) -> Tensor:
    """The uint8 array of an IDX file.

    Format: 0, 0, type (8 = unsigned byte), number of dimensions, each size as a big-endian
    32-bit integer, then the values, the last index fastest.

    Raises:
        UserError: if the format or the number of dimensions differs, or the file is cut off.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic or len(content) < header:
        raise UserError(
            path,
            found=f"a file that starts with {content[:4].hex(' ') or 'nothing'}",
            expected=f"an IDX file of bytes in {dimensions} dimensions, starting {magic.hex(' ')}",
            remedy="Check that the right file has this name.",
        )
    sizes = [int(size) for size in np.frombuffer(content[4:header], dtype=">u4")]
    if len(content) - header != math.prod(sizes):
        raise UserError(
            path,
            found=f"{len(content) - header:,} values",
            expected=f"{math.prod(sizes):,} ({' × '.join(map(str, sizes))}, as its header says)",
            remedy="The file is cut off or has been added to: copy or download it anew.",
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(sizes).copy())


def _check_digest(path: Path, content: bytes, digest: str | None) -> None:
    """Refuse content with another SHA-256, if one is given."""
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise UserError(
            path,
            found=f"content with SHA-256 {found}",
            expected=f"SHA-256 {digest}",
            remedy="This is not the official file: delete it to have it downloaded again, or "
            "give your own data a preset of its own, without `sha256`.",
        )
