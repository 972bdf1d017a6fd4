"""The files of a folder, a tar or a zip archive, read one by one and never unpacked into place."""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from flowquant.runtime.errors import UserError

COMPRESSIONS: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
# Files that file managers leave behind.
LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
# A zip member's local header: 26 bytes that do not matter here, the lengths of name and extra.
ZIP_HEADER = struct.Struct("<26xHH")
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Entry:
    """The place of one file's content, small enough to be sent to another process.

    Args:
        name: Its path in the folder or archive, parts joined by ``/``.
        path: The file on disk that holds it.
        how: ``file`` whole, ``slice`` plain bytes from ``offset``, ``zip`` or ``deflated`` a
            member with a local header at ``offset``.
        offset: First byte.
        size: Bytes to read.
        checksum: CRC-32 of a zip member's content.
    """

    name: str
    path: str
    how: Literal["file", "slice", "zip", "deflated"] = "file"
    offset: int = 0
    size: int = 0
    checksum: int = 0

    def read(self) -> bytes:
        """The file's content.

        Raises:
            OSError, ValueError, zlib.error: if it is cut off or damaged.
        """
        if self.how == "file":
            return Path(self.path).read_bytes()
        if self.how == "slice":
            return _read_at(self.path, self.offset, self.size)
        lengths = ZIP_HEADER.unpack(_read_at(self.path, self.offset, ZIP_HEADER.size))
        content = _read_at(self.path, self.offset + ZIP_HEADER.size + sum(lengths), self.size)
        if self.how == "deflated":
            content = zlib.decompress(content, wbits=-15)
        if zlib.crc32(content) != self.checksum:
            raise ValueError("its checksum is wrong")
        return content


@dataclass(frozen=True)
class Files:
    """The files of the folder or archive ``path``, sorted by name, and the folders in it."""

    path: Path
    entries: tuple[Entry, ...]
    folders: frozenset[str]


@contextmanager
def open_files(path: Path, scratch: Path) -> Iterator[Files]:
    """List the files of a folder, a zip archive or a tar archive.

    A compressed tar archive is decompressed into a temporary file in ``scratch``, since its members
    cannot be reached one by one otherwise; nothing else is written. Hidden files and the litter of
    file managers are left out.

    Raises:
        UserError: if there is nothing, the archive is damaged or of another format, or a member
            is a link or has a name that leads out of the archive.
    """
    if path.is_dir():
        yield _files(path, *_walk(path))
        return
    if not path.is_file():
        raise UserError(
            path,
            found="no such file or folder",
            expected="a folder, or a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive",
            remedy="Put it there, or set `data_root` to the folder that has it.",
        )
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".unpacked.") as temporary:
        try:
            if zipfile.is_zipfile(path):
                files = _files(path, *_list_zip(path))
            else:
                plain = _decompress(path, Path(temporary) / "plain.tar")
                files = _files(path, *_list_tar(path, plain))
        except DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise UserError(
                    scratch,
                    found=error.strerror or str(error),
                    expected="a readable archive, and room to decompress it",
                    remedy="Check the archive's permissions and free some space, or decompress it "
                    "yourself.",
                ) from error
            raise UserError(
                path,
                found=f"a damaged archive, or none ({error or type(error).__name__})",
                expected="a whole .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive",
                remedy="Copy or download it anew.",
            ) from error
        yield files
        _descriptor.cache_clear()


def _files(path: Path, entries: list[Entry], folders: set[str]) -> Files:
    """What is listed, sorted and without litter."""
    kept = sorted((entry for entry in entries if not _litter(entry.name)), key=lambda e: e.name)
    return Files(path, tuple(kept), frozenset(f for f in folders if not _litter(f)))


def _litter(name: str) -> bool:
    """Whether a file or folder is hidden or a file manager's."""
    return any(part.startswith(".") or part in LITTER for part in name.split("/"))


def _walk(path: Path) -> tuple[list[Entry], set[str]]:
    entries, folders, seen = [], set(), set()
    for parent, subfolders, names in os.walk(path, followlinks=True):
        # Folders may be links, as in data sets put together from others; a loop ends here.
        real = os.path.realpath(parent)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        inside = Path(parent).relative_to(path)
        folders |= {(inside / name).as_posix() for name in subfolders}
        entries += [Entry((inside / name).as_posix(), f"{parent}/{name}") for name in names]
    return entries, folders


def _list_zip(path: Path) -> tuple[list[Entry], set[str]]:
    entries: list[Entry] = []
    folders: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # Windows tools may write backslashes.
            name = info.filename.replace("\\", "/")
            link = stat.S_ISLNK(info.external_attr >> 16)
            if _is_folder(path, name, info.is_dir(), folders, link=link):
                continue
            if info.flag_bits & 1 or info.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):
                raise UserError(
                    path,
                    found=f"{name}, encrypted or compressed in an unusual way",
                    expected="members that are stored or deflated",
                    remedy="Unpack the archive yourself and name the folder.",
                )
            how: Literal["zip", "deflated"] = "deflated" if info.compress_type else "zip"
            entries.append(
                Entry(name, str(path), how, info.header_offset, info.compress_size, info.CRC)
            )
    return entries, folders


def _list_tar(path: Path, plain: Path) -> tuple[list[Entry], set[str]]:
    """The files and folders in the archive ``path``, whose decompressed content is ``plain``."""
    entries: list[Entry] = []
    folders: set[str] = set()
    with tarfile.open(plain, mode="r:") as archive:
        while (member := archive.next()) is not None:
            odd = not (member.isreg() or member.isdir()) or member.issparse()
            if not _is_folder(path, member.name, member.isdir(), folders, link=odd):
                name = PurePosixPath(member.name).as_posix()  # "a/b" for "./a//b"
                entries.append(Entry(name, str(plain), "slice", member.offset_data, member.size))
            # It keeps all members, and a million of them would take a gigabyte.
            archive.members = []  # type: ignore[attr-defined]
    if not entries and not folders and plain.stat().st_size:
        raise tarfile.ReadError("no members")
    return entries, folders


def _is_folder(path: Path, name: str, folder: bool, folders: set[str], *, link: bool) -> bool:
    """Whether a member is a folder; adds its folders to ``folders``.

    Raises:
        UserError: if it is a link or leads out of the archive.
    """
    inner = PurePosixPath(name)
    if name.startswith("/") or ".." in inner.parts or name[1:2] == ":" or link:
        raise UserError(
            path,
            found=f"a link or special file, {name}" if link else f"a member named {name}",
            expected="plain files and folders, under names that stay inside the archive",
            remedy="Nothing was unpacked. Make the archive anew from trusted files.",
        )
    folders |= {parent.as_posix() for parent in inner.parents if parent.parts}
    if folder:
        folders.add(inner.as_posix())
    return folder


def _decompress(path: Path, target: Path) -> Path:
    """The plain tar archive: the file itself, or its content in ``target``."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opened in COMPRESSIONS.items():
        if start.startswith(magic):
            with opened(path) as source, target.open("wb") as plain:
                shutil.copyfileobj(source, plain, 1 << 20)
            return target
    return path


def _read_at(path: str, offset: int, size: int) -> bytes:
    """``size`` bytes of a file from ``offset`` on; ValueError if there are fewer."""
    content = os.pread(_descriptor(path), size, offset)
    if len(content) != size:
        raise ValueError("the archive ends inside it")
    return content


@lru_cache(maxsize=4)
def _descriptor(path: str) -> int:
    """A descriptor of an open file; threads and processes share it, as pread leaves no trace."""
    return os.open(path, os.O_RDONLY)


def shared_parent(names: list[str]) -> str:
    """The one folder, with its ``/``, that all names begin with; empty if there is none."""
    first = {name.partition("/")[0] for name in names if "/" in name}
    return f"{first.pop()}/" if len(first) == 1 and all("/" in name for name in names) else ""
