"""Folders and archives give the same files; nothing leads out of them."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from flowquant.data.archive import open_files
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
    with open_files(path, tmp_path / "scratch") as files:
        assert [entry.name for entry in files.entries] == KEPT
        assert {entry.name: entry.read() for entry in files.entries} == {n: FILES[n] for n in KEPT}
        assert files.folders >= {"train", "train/cat", "test", "test/dog"}
    assert not list((tmp_path / "scratch").iterdir()) if kind != "folder" else True


def test_names_are_tidied(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "data.tar", {"./a//b.png": b"b", "./c.png": b"c"}, "")
    with open_files(path, tmp_path) as files:
        assert {e.name: e.read() for e in files.entries} == {"a/b.png": b"b", "c.png": b"c"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tarxz"])
@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil"])
def test_names_that_lead_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = write(kind, tmp_path / "data", {"train/cat/1.png": b"1", name: b"evil"})
    with (
        pytest.raises(UserError, match=f"data.*: found a member named {name}; expected"),
        open_files(path, tmp_path / "scratch"),
    ):
        pass
    assert not list((tmp_path / "scratch").iterdir())


def test_backslashes_lead_nowhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("..\\evil.png", b"evil")
    with (
        pytest.raises(UserError, match="a member named"),
        open_files(tmp_path / "data.zip", tmp_path),
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
        open_files(tmp_path / "data.tar", tmp_path),
    ):
        pass


def test_symbolic_links_in_zips_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="link"), open_files(tmp_path / "data.zip", tmp_path):
        pass


@pytest.mark.parametrize("kind", ["zip", "tar", "targz", "tarxz"])
def test_damaged_archives(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path / "data", {f"{i}.png": bytes(range(256)) * 20 for i in range(9)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with (
        pytest.raises(UserError, match="a damaged archive"),
        open_files(path, tmp_path / "scratch"),
    ):
        pass
    assert not list((tmp_path / "scratch").iterdir())


def test_something_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "data.rar").write_bytes(b"Rar!" + bytes(1000))
    with (
        pytest.raises(UserError, match="a damaged archive, or none"),
        open_files(tmp_path / "data.rar", tmp_path),
    ):
        pass


def test_nothing_there(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"nowhere: found no such file or folder.*`data_root`"),
        open_files(tmp_path / "nowhere", tmp_path),
    ):
        pass


def test_flipped_bit_in_a_zip_is_seen(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("1.png", b"some pixels")
    damaged = content.getvalue().replace(b"some pixels", b"some pixelz")
    (tmp_path / "data.zip").write_bytes(damaged)
    with (
        open_files(tmp_path / "data.zip", tmp_path) as files,
        pytest.raises(ValueError, match="checksum"),
    ):
        files.entries[0].read()


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"1.png": b"1"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    with open_files(tmp_path / "data", tmp_path) as files:
        assert [entry.name for entry in files.entries] == ["cat/1.png"]
