"""The files of a folder, a tar or a zip archive, read one by one and never unpacked into place.

What a header declares bounds what is read, and a file may not be larger than a picture can be.
"""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from flowquant.runtime.errors import UserError
from flowquant.runtime.files import regular, temporary

COMPRESSIONS: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
# Files that file managers leave behind.
LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
# A zip member's local header: 26 bytes that do not matter here, the lengths of name and extra.
ZIP_HEADER = struct.Struct("<26xHH")
# Of the largest picture that Pillow decodes without a warning, and its bytes at four a pixel.
MOST_PIXELS = 89_478_485
MOST_BYTES = 4 * MOST_PIXELS
# Of a tar member's headers, and after its end: names and attributes, and padding, are far shorter.
MOST_HEADER = 1 << 20
MOST_PADDING = 16 << 20
CHUNK = 1 << 20
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
        length: Bytes of a zip member's content.
        checksum: CRC-32 of a zip member's content.
    """

    name: str
    path: str
    how: Literal["file", "slice", "zip", "deflated"] = "file"
    offset: int = 0
    size: int = 0
    length: int = 0
    checksum: int = 0

    def read(self) -> bytes:
        """The file's content.

        Raises:
            OSError, ValueError, zlib.error: if it is cut off, damaged or too large.
        """
        if self.how == "file":
            return _read_file(self.path)
        refuse_large(max(self.size, self.length))
        if self.how == "slice":
            return _read_at(self.path, self.offset, self.size)
        lengths = ZIP_HEADER.unpack(_read_at(self.path, self.offset, ZIP_HEADER.size))
        content = _read_at(self.path, self.offset + ZIP_HEADER.size + sum(lengths), self.size)
        if self.how == "deflated":
            # One byte more than declared shows whether there is more.
            content = zlib.decompressobj(wbits=-15).decompress(content, self.length + 1)
        if len(content) != self.length:
            raise ValueError(f"not the {self.length:,} bytes that the archive declares")
        if zlib.crc32(content) != self.checksum:
            raise ValueError("its checksum is wrong")
        return content


class Unpacked:
    """A compressed file as a plain one to read and seek in, decompressed as far as it is asked for.

    Args:
        name: The compressed file, for the system's errors.
        source: Its content, as a stream; nothing if ``plain`` has all.
        plain: Where that is kept.
    """

    def __init__(self, name: str, source: IO[bytes], plain: IO[bytes]) -> None:
        self._name, self._source, self._plain = name, source, plain
        self.may_read = MOST_HEADER

    def tell(self) -> int:
        """The place of the next byte."""
        return self._plain.tell()

    def seek(self, offset: int) -> int:
        """Go to a place, counted from the start."""
        return self._plain.seek(offset)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, of the ``may_read`` that are left for one member's headers."""
        self.may_read -= size
        if self.may_read < 0:
            raise tarfile.ReadError(f"a member's headers of more than {MOST_HEADER:,} bytes")
        place = self._plain.tell()
        end = self._plain.seek(0, os.SEEK_END)
        while end < place + size and (content := self._next()):
            end += self._plain.write(content)
        self._plain.seek(place)
        return self._plain.read(size)

    def finish(self) -> None:
        """Read to the end, where a checksum is checked, past all members."""
        left = MOST_PADDING
        while content := self._next():
            left -= len(content)
            if left < 0:
                raise tarfile.ReadError(f"more than {MOST_PADDING:,} bytes after its end")

    def _next(self) -> bytes:
        try:
            return self._source.read(CHUNK)
        except OSError as error:
            error.filename = error.filename or self._name
            raise


@dataclass(frozen=True)
class Files:
    """The files of the folder or archive ``path``, sorted by name, and the folders in it."""

    path: Path
    entries: tuple[Entry, ...]
    folders: frozenset[str]


@contextmanager
def open_files(path: Path, output: Path) -> Iterator[Files]:
    """List the files of a folder, a zip archive or a tar archive.

    A compressed tar archive is decompressed into a temporary file beside ``output``, since its
    members cannot be reached one by one otherwise; nothing else is written. Hidden files and the
    litter of file managers are left out.

    Raises:
        UserError: if there is nothing, the archive is damaged or of another format, a file is a
            pipe or a device, or a member is a link, has a name that leads out of the archive, or is
            compressed and larger than a picture can be.
    """
    if path.is_dir():
        yield _files(path, *_walk(path))
        return
    if not regular(path).is_file():
        raise UserError(
            path,
            found="no such file or folder",
            expected="a folder, or a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive",
            remedy="Put it there, or set `data_root` to the folder that has it.",
        )
    with temporary(output, ".tar") as plain:
        try:
            if zipfile.is_zipfile(path):
                files = _files(path, *_list_zip(path))
            else:
                files = _files(path, *_list_tar(path, plain))
        except DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # What the system says: of a place or a disk, and not of the content.
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
    entries: list[Entry] = []
    folders: set[str] = set()
    seen: set[str] = set()

    def visit(parent: str, inside: str) -> None:
        # Folders may be links, as in data sets put together from others; a loop ends here.
        if (real := os.path.realpath(parent)) in seen:
            return
        seen.add(real)
        with os.scandir(parent) as listed:
            items = sorted(listed, key=lambda item: item.name)
        for item in items:
            name = inside + item.name
            if _litter(item.name):
                continue
            # A link to nothing is an image that cannot be read.
            nowhere = item.is_symlink() and not Path(item.path).exists()
            if not nowhere and item.is_dir():
                folders.add(name)
                visit(item.path, f"{name}/")
                continue
            if not nowhere and not item.is_file():
                regular(Path(item.path))
            entries.append(Entry(name, item.path))

    visit(str(path), "")
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
                Entry(
                    name=name,
                    path=str(path),
                    how=how,
                    offset=info.header_offset,
                    size=info.compress_size,
                    length=info.file_size,
                    checksum=info.CRC,
                )
            )
    return entries, folders


def _list_tar(path: Path, room: Path) -> tuple[list[Entry], set[str]]:
    """The files and folders in the archive ``path``, decompressed into ``room`` if need be."""
    entries: list[Entry] = []
    folders: set[str] = set()
    with path.open("rb") as file:
        start = file.read(6)
    opened = next((way for magic, way in COMPRESSIONS.items() if start.startswith(magic)), None)
    plain = room if opened else path
    with (
        opened(path) if opened else io.BytesIO() as source,
        plain.open("r+b" if opened else "rb") as kept,
    ):
        unpacked = Unpacked(str(path), source, kept)
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                odd = not (member.isreg() or member.isdir()) or member.issparse()
                if not _is_folder(path, member.name, member.isdir(), folders, link=odd):
                    if opened and member.size > MOST_BYTES:
                        raise UserError(
                            path,
                            found=f"{member.name} of {member.size:,} bytes",
                            expected=f"members of at most {MOST_BYTES:,}, more than a picture has",
                            remedy="Unpack the archive yourself and name the folder.",
                        )
                    name = PurePosixPath(member.name).as_posix()  # "a/b" for "./a//b"
                    entries.append(
                        Entry(name, str(plain), "slice", member.offset_data, member.size)
                    )
                # It keeps all members, and a million of them would take a gigabyte.
                archive.members = []
                unpacked.may_read = MOST_HEADER
        if not entries and not folders and kept.seek(0, os.SEEK_END):
            raise tarfile.ReadError("no members")
        unpacked.finish()
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


def refuse_large(size: int) -> None:
    """Raise a ValueError for a file that is larger than a picture can be."""
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, over {MOST_BYTES:,}")


def _read_file(path: str) -> bytes:
    """A file's content; ValueError if it is too large or no file."""
    # A pipe that took the place of a listed file is not waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no file")
        refuse_large(status.st_size)
        return file.read()


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
