"""Folders and archives give the same files; nothing leads out of them."""

import gzip
import io
import os
import signal
import socket
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from flowquant.data import archive
from flowquant.data.archive import CHUNK, Entry, Unpacked, open_files
from flowquant.runtime.errors import UserError
from image_files import write_folder, write_tar, write_zip

FILES = {
    "train/cat/2.png": b"two",
    "train/cat/10.png": b"ten" * 1000,
    "test/dog/a b.png": b"",
    "train/.DS_Store": b"litter",
    "__MACOSX/train/cat/._2.png": b"litter",
    "train/cat/Thumbs.db": b"litter",
}
KEPT = ["test/dog/a b.png", "train/cat/10.png", "train/cat/2.png"]


def write(kind: str, path: Path, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        return write_folder(path, files)
    if kind == "zip":
        return write_zip(path.with_suffix(".zip"), files)
    return write_tar(path.with_suffix(".tar"), files, kind.removeprefix("tar"))


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "targz", "tarbz2", "tarxz"])
def test_every_form_gives_the_same(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path / "data", FILES)
    with open_files(path, tmp_path / "scratch/out") as files:
        assert [entry.name for entry in files.entries] == KEPT
        assert {entry.name: entry.read() for entry in files.entries} == {n: FILES[n] for n in KEPT}
        assert files.folders >= {"train", "train/cat", "test", "test/dog"}
    assert not list((tmp_path / "scratch").iterdir()) if kind != "folder" else True


def test_names_are_tidied(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "data.tar", {"./a//b.png": b"b", "./c.png": b"c"}, "")
    with open_files(path, tmp_path / "out") as files:
        assert {e.name: e.read() for e in files.entries} == {"a/b.png": b"b", "c.png": b"c"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tarxz"])
@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil"])
def test_names_that_lead_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = write(kind, tmp_path / "data", {"train/cat/1.png": b"1", name: b"evil"})
    with (
        pytest.raises(UserError, match=f"data.*: found a member named {name}; expected"),
        open_files(path, tmp_path / "scratch/out"),
    ):
        pass
    assert not list((tmp_path / "scratch").iterdir())


def test_backslashes_lead_nowhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("..\\evil.png", b"evil")
    with (
        pytest.raises(UserError, match="a member named"),
        open_files(tmp_path / "data.zip", tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        member = tarfile.TarInfo("train/cat/1.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with (
        pytest.raises(UserError, match=r"found a link or special file, train/cat/1\.png"),
        open_files(tmp_path / "data.tar", tmp_path / "out"),
    ):
        pass


def test_symbolic_links_in_zips_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with (
        pytest.raises(UserError, match="link"),
        open_files(tmp_path / "data.zip", tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize("kind", ["zip", "tar", "targz", "tarxz"])
def test_damaged_archives(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path / "data", {f"{i}.png": bytes(range(256)) * 20 for i in range(9)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with (
        pytest.raises(UserError, match="a damaged archive"),
        open_files(path, tmp_path / "scratch/out"),
    ):
        pass
    assert not list((tmp_path / "scratch").iterdir())


def test_something_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "data.rar").write_bytes(b"Rar!" + bytes(1000))
    with (
        pytest.raises(UserError, match="a damaged archive, or none"),
        open_files(tmp_path / "data.rar", tmp_path / "out"),
    ):
        pass


def test_nothing_there(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"nowhere: found no such file or folder.*`data_root`"),
        open_files(tmp_path / "nowhere", tmp_path / "out"),
    ):
        pass


def test_flipped_bit_in_a_zip_is_seen(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("1.png", b"some pixels")
    damaged = content.getvalue().replace(b"some pixels", b"some pixelz")
    (tmp_path / "data.zip").write_bytes(damaged)
    with (
        open_files(tmp_path / "data.zip", tmp_path / "out") as files,
        pytest.raises(ValueError, match="checksum"),
    ):
        files.entries[0].read()


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"1.png": b"1"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    with open_files(tmp_path / "data", tmp_path / "out") as files:
        assert [entry.name for entry in files.entries] == ["cat/1.png"]


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link to a device", "socket"])
def test_what_is_no_file_is_refused_by_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", FILES) / "train/cat"
    monkeypatch.chdir(folder)  # Names of sockets are short.
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(".hidden")
    with open_files(tmp_path / "data", tmp_path / "out") as files:
        assert [entry.name for entry in files.entries] == KEPT
    found = kind.rsplit(" a ", maxsplit=1)[-1]
    if kind == "pipe":
        os.mkfifo("odd.png")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("odd.png")
    else:
        target = tmp_path / "fifo" if kind == "link to a pipe" else Path("/dev/zero")
        Path("odd.png").symlink_to(target)
    with (
        pytest.raises(UserError, match=rf"cat/odd\.png: found a {found}; expected"),
        open_files(tmp_path / "data", tmp_path / "out"),
    ):
        pass


def test_an_archive_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.zip")
    with (
        pytest.raises(UserError, match="found a pipe"),
        open_files(tmp_path / "data.zip", tmp_path / "out"),
    ):
        pass


def test_a_pipe_in_a_listed_files_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    signal.alarm(20)
    try:
        with pytest.raises(ValueError, match="no file"):
            Entry("1.png", str(tmp_path / "1.png")).read()
    finally:
        signal.alarm(0)


def test_links_to_nothing_are_images_that_cannot_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", FILES)
    (tmp_path / "data/train/cat/0.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "data/train/cat/1.png").symlink_to("1.png")
    with open_files(tmp_path / "data", tmp_path / "out") as files:
        names = [entry.name for entry in files.entries]
    assert {"train/cat/0.png", "train/cat/1.png"} < set(names)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_files_larger_than_a_picture_are_not_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(kind, tmp_path / "data", {"0.png": bytes(1000), "1.png": bytes(1001)})
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with open_files(path, tmp_path / "out") as files:
        assert files.entries[0].read() == bytes(1000)
        with pytest.raises(ValueError, match="1,001 bytes, over 1,000"):
            files.entries[1].read()


@pytest.mark.parametrize("declared", [999, 1001])
def test_a_member_is_what_its_archive_declares(tmp_path: Path, declared: int) -> None:
    """The memory that a member takes is bounded by its header, which may lie."""
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("1.png", bytes(1000))
    content = (tmp_path / "data.zip").read_bytes()
    lie = content.replace(struct.pack("<I", 1000), struct.pack("<I", declared))
    (tmp_path / "data.zip").write_bytes(lie)
    with (
        open_files(tmp_path / "data.zip", tmp_path / "out") as files,
        pytest.raises(ValueError, match=f"not the {declared:,} bytes that the archive declares"),
    ):
        files.entries[0].read()


def test_memory_for_a_member_is_what_its_archive_declares(tmp_path: Path) -> None:
    size = 64 << 20
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("1.png", bytes(size))
    content = (tmp_path / "data.zip").read_bytes()
    (tmp_path / "data.zip").write_bytes(
        content.replace(struct.pack("<I", size), struct.pack("<I", 10))
    )
    with open_files(tmp_path / "data.zip", tmp_path / "out") as files:
        tracemalloc.start()
        with pytest.raises(ValueError, match="not the 10 bytes"):
            files.entries[0].read()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


MANY = 3 << 30


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (bytes(8 << 20), "no members"),
        (header("1.png", 1) + bytes(32 << 20), "more than 16,777,216 bytes after its end"),
        (header("1.png", MANY), f"1.png of {MANY:,} bytes; expected members of at most"),
        (header("1", MANY, tarfile.XHDTYPE) + bytes(1 << 16), "headers of more than 1,048,576"),
        (header("1", MANY, tarfile.GNUTYPE_LONGNAME) + bytes(1 << 16), "headers of more than"),
    ],
    ids=["zeros", "zeros at the end", "member", "attributes", "name"],
)
def test_compressed_archives_that_grow_without_end(
    tmp_path: Path, content: bytes, found: str
) -> None:
    (tmp_path / "data.tgz").write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with (
        pytest.raises(UserError, match=found),
        open_files(tmp_path / "data.tgz", tmp_path / "out"),
    ):
        pass
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["data.tgz"]


def test_no_more_is_decompressed_than_is_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "plain").open("w+b") as plain:
        unpacked = Unpacked("data.tgz", io.BytesIO(bytes(range(256)) * 8192 * 4), plain)
        assert unpacked.read(512) == bytes(range(256)) * 2
        assert (tmp_path / "plain").stat().st_size <= CHUNK
        unpacked.seek(3 * CHUNK + 1)
        assert unpacked.read(3) == bytes([1, 2, 3])
        assert unpacked.tell() == 3 * CHUNK + 4


def test_a_flipped_bit_in_a_compressed_archive_is_seen(tmp_path: Path) -> None:
    path = write("targz", tmp_path / "data", {"1.png": os.urandom(5000)})
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the checksum of all content
    path.write_bytes(content)
    with pytest.raises(UserError, match="a damaged archive"), open_files(path, tmp_path / "out"):
        pass
