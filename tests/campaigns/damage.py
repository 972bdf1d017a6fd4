"""What can be wrong with any file, and with JSON, tables and images."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Changes a file (a copy, which it may replace); whether the result must be refused.
Damage = Callable[[Path, random.Random], bool]

MUST, MAY = True, False
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "a\nb\x00"),
    *([], [None], [[1]], {}, {"x": 1}),
)
DEEP = 100_000


def _replaced(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def empty(path: Path, rng: random.Random) -> bool:
    _replaced(path, b"")
    return MUST


def truncated(path: Path, rng: random.Random) -> bool:
    content = path.read_bytes()
    _replaced(path, content[: rng.randrange(1, len(content))])
    # Rows at the end of a text may be missed by nobody, those of a picture by who looks at it.
    return MUST if path.suffix not in (".csv", ".txt", ".png", ".svg") else MAY


def flipped(path: Path, rng: random.Random) -> bool:
    """One bit: a digest or checksum tells, where a format has one."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    _replaced(path, bytes(content))
    return MAY


def garbled(path: Path, rng: random.Random) -> bool:
    _replaced(path, rng.randbytes(min(path.stat().st_size, 100_000)))
    return MUST


def appended(path: Path, rng: random.Random) -> bool:
    _replaced(path, path.read_bytes() + rng.randbytes(1000))
    return MAY


def vast(path: Path, rng: random.Random) -> bool:
    """Three GiB of zeros, which take no room on the disk."""
    path.unlink()
    with path.open("wb") as file:
        file.truncate(3 << 30)
    return MUST


def folder(path: Path, rng: random.Random) -> bool:
    path.unlink()
    path.mkdir()
    return MUST


def pipe(path: Path, rng: random.Random) -> bool:
    path.unlink()
    os.mkfifo(path)
    return MUST


def loop(path: Path, rng: random.Random) -> bool:
    path.unlink()
    path.symlink_to(path.name)
    return MUST


def missing(path: Path, rng: random.Random) -> bool:
    path.unlink()
    return MUST


def endless(path: Path, rng: random.Random) -> bool:
    path.unlink()
    path.symlink_to("/dev/zero")
    return MUST


def another(path: Path, rng: random.Random) -> bool:
    """A good file of a kind that is not this one's."""
    others = {
        ".json": b'{"a": 1}\n',
        ".csv": b"a,b\n1,2\n",
        ".png": picture(8, 8),
        ".safetensors": (8).to_bytes(8, "little") + b"{}      ",
    }
    _replaced(path, rng.choice([text for kind, text in others.items() if kind != path.suffix]))
    return MUST


ANY: Mapping[str, Damage] = {
    f.__name__: f
    for f in (
        *(empty, truncated, flipped, garbled, appended, vast),
        *(folder, pipe, loop, missing, endless, another),
    )
}


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested dictionaries and lists."""
    found = [path] if path else []
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        found += places(value, (*path, key))
    return found


def changed(content: Any, rng: random.Random, drop: bool) -> Any:
    """JSON-able content with one value dropped or replaced."""
    copied = json.loads(json.dumps(content))
    if not (paths := places(copied)):
        return rng.choice(NASTY)
    *parents, last = rng.choice(paths)
    inside = copied
    for part in parents:
        inside = inside[part]
    if drop:
        del inside[last]
    else:
        inside[last] = rng.choice(NASTY)
    return copied


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def key_lost(path: Path, rng: random.Random) -> bool:
    _replaced(path, json.dumps(changed(_json(path), rng, drop=True)).encode())
    return MAY


def value_changed(path: Path, rng: random.Random) -> bool:
    _replaced(path, json.dumps(changed(_json(path), rng, drop=False)).encode())
    return MAY


def not_a_mapping(path: Path, rng: random.Random) -> bool:
    _replaced(path, rng.choice([b"[]", b"null", b"3", b'"x"', b"[1, 2]", b"[{}]", b"{}"]))
    return MUST


def deep(path: Path, rng: random.Random) -> bool:
    _replaced(path, rng.choice([b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" * DEEP + b"]" * DEEP]))
    return MUST


def long_number(path: Path, rng: random.Random) -> bool:
    _replaced(path, rng.choice([b'{"a": %s}', b"[%s]"]) % (b"9" * 10_000))
    return MUST


def otherwise_encoded(path: Path, rng: random.Random) -> bool:
    _replaced(path, path.read_text().encode(rng.choice(["utf-16", "utf-32"])))
    return MUST


JSON: Mapping[str, Damage] = {
    f.__name__: f
    for f in (key_lost, value_changed, not_a_mapping, deep, long_number, otherwise_encoded)
}


def _table(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text())))


def _write_table(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    _replaced(path, text.getvalue().encode())


def cell_changed(path: Path, rng: random.Random) -> bool:
    rows = _table(path)
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice(["x", "nan", "inf", "-1", "", "1e999", "\x00"])
    _write_table(path, rows)
    return MAY


def column_lost(path: Path, rng: random.Random) -> bool:
    rows = _table(path)
    column = rng.randrange(len(rows[0]))
    _write_table(path, [row[:column] + row[column + 1 :] for row in rows])
    return MAY


def row_short(path: Path, rng: random.Random) -> bool:
    rows = _table(path)
    row = rng.choice(rows[1:])
    del row[rng.randrange(len(row)) :]
    _write_table(path, rows)
    return MAY


def head_alone(path: Path, rng: random.Random) -> bool:
    _write_table(path, _table(path)[:1])
    return MUST


def long_cell(path: Path, rng: random.Random) -> bool:
    rows = _table(path)
    rng.choice(rows)[0] = "x" * 200_000
    _write_table(path, rows)
    return MAY


CSV: Mapping[str, Damage] = {
    f.__name__: f
    for f in (cell_changed, column_lost, row_short, head_alone, long_cell, otherwise_encoded)
}


def picture(width: int, height: int, content: bytes = b"") -> bytes:
    """A grey PNG file of any size, said to be so; without content all is black and missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(content or b"\0" * (width + 1) * min(height, 1000))
    body = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
