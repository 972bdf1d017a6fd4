"""What can be wrong with original data: archives, the images in them, IDX files, pickles, lists."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from campaigns.damage import MAY, MUST, Damage, picture
from image_files import encoded

Files = dict[str, bytes]
Member = tuple[tarfile.TarInfo, bytes]
BOMB = 2 << 30


def _member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def _read(path: Path) -> Files:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as tar:
        members = [m for m in tar.getmembers() if m.isfile()]
        return {m.name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def _write(path: Path, files: Files, more: list[Member] | None = None) -> None:
    path.unlink()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, catch_warnings():
            simplefilter("ignore")  # a name that is there already is meant
            for name, content in files.items():
                archive.writestr(name, content)
            for info, content in more or ():
                entry = zipfile.ZipInfo(info.name)
                if info.issym():
                    entry.external_attr = 0o120777 << 16
                archive.writestr(entry, info.linkname.encode() if info.issym() else content)
        return
    with tarfile.open(path, f"w:{path.suffix[1:]}") as tar:  # type: ignore[call-overload]
        members = [_member(name, content) for name, content in files.items()]
        for info, content in [*members, *(more or ())]:
            tar.addfile(info, io.BytesIO(content))


def _contents(change: Callable[[Files, random.Random], bool]) -> Damage:
    def damage(path: Path, rng: random.Random) -> bool:
        files = _read(path)
        must = change(files, rng)
        _write(path, files)
        return must

    return damage


def _members(make: Callable[[str], list[Member]], must: bool) -> Damage:
    """Members added beside a good one of the archive."""

    def damage(path: Path, rng: random.Random) -> bool:
        files = _read(path)
        name = rng.choice(sorted(files))
        _write(path, files, make(name))
        return must

    return damage


def _one(content: Callable[[bytes, random.Random], bytes], must: bool) -> Damage:
    """Other content of one member."""

    def change(files: Files, rng: random.Random) -> bool:
        name = rng.choice(sorted(files))
        files[name] = content(files[name], rng)
        return must

    return _contents(change)


def _none_left(files: Files, rng: random.Random) -> bool:
    files.clear()
    return MUST


def _one_lost(files: Files, rng: random.Random) -> bool:
    del files[rng.choice(sorted(files))]
    return MAY


def _class_lost(files: Files, rng: random.Random) -> bool:
    gone = str(Path(rng.choice(sorted(files))).parent)
    for name in [name for name in files if name.startswith(gone)]:
        del files[name]
    return MUST


def a_bomb(path: Path, rng: random.Random) -> bool:
    """Two GiB of zeros in a member of a zip, few KiB; in a tar less, which takes long to write."""
    files = _read(path)
    name = rng.choice(sorted(files))
    if path.suffix != ".zip":
        # Of many members of zeros, none of them large enough to be slow to write.
        more = [_member(f"{name}{index}", bytes(1 << 24)) for index in range(8)]
        _write(path, files, more)
        return MUST
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for own, content in files.items():
            if own != name:
                archive.writestr(own, content)
        with archive.open(name, "w", force_zip64=True) as member:
            for _ in range(BOMB >> 24):
                member.write(bytes(1 << 24))
    return MUST


def other_compression(path: Path, rng: random.Random) -> bool:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(gzip.compress(content))
    return MAY


def _animated(content: bytes, rng: random.Random) -> bytes:
    from PIL import Image

    frames = [Image.new("L", (12, 12), shade) for shade in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


ARCHIVES: Mapping[str, Damage] = {
    "a_bomb": a_bomb,
    "other_compression": other_compression,
    "none_left": _contents(_none_left),
    "one_lost": _contents(_one_lost),
    "class_lost": _contents(_class_lost),
    "outside": _members(lambda n: [_member(f"../../../{n}", b"PWNED")], MAY),
    "at_the_root": _members(lambda n: [_member("/tmp/PWNED/x.png", encoded(1))], MAY),
    "a_link": _members(
        lambda n: [_member(f"{n}2.png", kind=tarfile.SYMTYPE, link="/etc/passwd")], MAY
    ),
    "a_link_to_itself": _members(
        lambda n: [_member(f"{n}2.png", kind=tarfile.SYMTYPE, link=f"{n}2.png")], MAY
    ),
    "a_hard_link": _members(
        lambda n: [_member(f"{n}2.png", kind=tarfile.LNKTYPE, link="/etc/passwd")], MAY
    ),
    "a_pipe": _members(lambda n: [_member(f"{n}2.png", kind=tarfile.FIFOTYPE)], MAY),
    "a_device": _members(lambda n: [_member(f"{n}2.png", kind=tarfile.CHRTYPE)], MAY),
    "twice": _members(lambda n: [_member(n, encoded(1))], MAY),
    "no_image": _one(lambda content, rng: b"no image", MUST),
    "an_empty_member": _one(lambda content, rng: b"", MUST),
    "half_an_image": _one(lambda content, rng: content[: len(content) // 2], MUST),
    "an_image_bomb": _one(lambda content, rng: picture(60_000, 60_000), MUST),
    "a_wide_image": _one(lambda content, rng: picture(30_000, 5_000), MAY),
    "an_image_of_no_size": _one(lambda content, rng: picture(0, 0), MUST),
    "a_tiny_image": _one(lambda content, rng: encoded(1, (2, 2)), MUST),
    "an_animation": _one(_animated, MAY),
    "a_member_flipped": _one(lambda content, rng: bytes([content[0] ^ 255]) + content[1:], MUST),
    "random_bytes": _one(lambda content, rng: rng.randbytes(3000), MUST),
}


def _idx(change: Callable[[bytearray, random.Random], bytearray | None], must: bool) -> Damage:
    def damage(path: Path, rng: random.Random) -> bool:
        content = bytearray(gzip.decompress(path.read_bytes()))
        new = change(content, rng)
        path.unlink()
        path.write_bytes(gzip.compress(bytes(content if new is None else new)))
        return must

    return damage


def _bytes_at(place: int, new: bytes) -> Callable[[bytearray, random.Random], None]:
    def change(content: bytearray, rng: random.Random) -> None:
        content[place : place + len(new)] = new

    return change


def zeros_for_ever(path: Path, rng: random.Random) -> bool:
    """Two GiB in two MiB, under a header that is right."""
    head = gzip.decompress(path.read_bytes())[:16]
    path.unlink()
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(BOMB >> 24):
            file.write(bytes(1 << 24))
    return MUST


IDX: Mapping[str, Damage] = {
    "zeros_for_ever": zeros_for_ever,
    "vast_count": _idx(_bytes_at(4, b"\xff\xff\xff\xff"), MUST),
    "no_count": _idx(_bytes_at(4, bytes(4)), MUST),
    "fewer": _idx(_bytes_at(4, bytes([0, 0, 0, 5])), MUST),
    "more_dimensions": _idx(_bytes_at(3, b"\xff"), MUST),
    "no_dimensions": _idx(_bytes_at(3, b"\0"), MUST),
    "other_type": _idx(_bytes_at(2, b"\x0d"), MUST),
    "other_magic": _idx(_bytes_at(0, b"\x01"), MUST),
    "cut_inside": _idx(lambda content, rng: content[: rng.randrange(len(content))], MUST),
    "longer_inside": _idx(lambda content, rng: content + b"xxxx", MUST),
    "head_alone": _idx(lambda content, rng: content[:4], MUST),
    "labels_beyond": _idx(lambda content, rng: content[:-1] + b"\xff", MAY),
    "two_streams": lambda path, rng: _appended_stream(path),
}


def _appended_stream(path: Path) -> bool:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + content)
    return MUST


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


def _batch(make: Callable[[Any, random.Random], Any], must: bool) -> Damage:
    def change(files: Files, rng: random.Random) -> bool:
        name = rng.choice([name for name in sorted(files) if "_batch" in name])
        new = make(pickle.loads(files[name], encoding="bytes"), rng)
        files[name] = new if isinstance(new, bytes) else pickle.dumps(new, protocol=2)
        return must

    return _contents(change)


def _deep(content: Any, rng: random.Random) -> bytes:
    return b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."


CIFAR10: Mapping[str, Damage] = {
    "a_program": _batch(lambda c, rng: _Runs(), MUST),
    "a_program_inside": _batch(lambda c, rng: c | {b"x": _Runs()}, MUST),
    "labels_lost": _batch(lambda c, rng: {b"data": c[b"data"]}, MUST),
    "data_lost": _batch(lambda c, rng: {b"labels": c[b"labels"]}, MUST),
    "labels_beyond": _batch(lambda c, rng: c | {b"labels": [1, 2, 3, 10**20]}, MUST),
    "labels_below": _batch(lambda c, rng: c | {b"labels": [1, 2, 3, -1]}, MUST),
    "labels_of_text": _batch(lambda c, rng: c | {b"labels": ["x"] * 4}, MUST),
    "fewer_labels": _batch(lambda c, rng: c | {b"labels": [1]}, MUST),
    "data_of_floats": _batch(lambda c, rng: c | {b"data": c[b"data"] * 1.5}, MUST),
    "data_in_a_list": _batch(lambda c, rng: c | {b"data": [[1, 2]]}, MUST),
    "narrow_data": _batch(lambda c, rng: c | {b"data": c[b"data"][:, :100]}, MUST),
    "no_data": _batch(lambda c, rng: c | {b"data": c[b"data"][:0], b"labels": []}, MUST),
    "a_list": _batch(lambda c, rng: [1, 2], MUST),
    "a_number": _batch(lambda c, rng: 3, MUST),
    "deep": _batch(_deep, MUST),
    "vast_text": _batch(lambda c, rng: b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.", MUST),
    "vast_memo": _batch(lambda c, rng: b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".", MUST),
}


def _lines(change: Callable[[list[str], random.Random], bytes | None], must: bool) -> Damage:
    def damage(path: Path, rng: random.Random) -> bool:
        lines = path.read_text().splitlines()
        new = change(lines, rng)
        path.unlink()
        path.write_bytes("\n".join([*lines, ""]).encode() if new is None else new)
        return must

    return damage


def _in_a_line(make: Callable[[str], str]) -> Callable[[list[str], random.Random], None]:
    def change(lines: list[str], rng: random.Random) -> None:
        index = rng.randrange(min(2, len(lines) - 1), len(lines))
        lines[index] = make(lines[index])

    return change


def _out(lines: list[str], rng: random.Random) -> None:
    del lines[rng.randrange(2, len(lines))]


def _repeated(lines: list[str], rng: random.Random) -> None:
    lines.append(lines[-1])


LISTS: Mapping[str, Damage] = {
    "line_lost": _lines(_out, MUST),
    "line_twice": _lines(_repeated, MUST),
    "other_value": _lines(_in_a_line(lambda line: line.rpartition(" ")[0] + " 7"), MUST),
    "a_word": _lines(_in_a_line(lambda line: line.rpartition(" ")[0] + " x"), MUST),
    "value_lost": _lines(_in_a_line(lambda line: line.rpartition(" ")[0].rstrip()), MUST),
    "unknown_file": _lines(_in_a_line(lambda line: f"x{line}"), MUST),
    "name_alone": _lines(_in_a_line(lambda line: line.partition(" ")[0]), MUST),
    "first_line": _lines(_in_a_line(lambda line: "999999999999999999999"), MUST),
    "not_utf8": _lines(lambda lines, rng: b"\xff\xfe" + rng.randbytes(100), MUST),
    "one_long_line": _lines(lambda lines, rng: b"x" * 10_000_000, MUST),
}
