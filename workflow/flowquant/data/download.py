"""Files from the network, checked before they are kept."""

import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flowquant.runtime import files
from flowquant.runtime.errors import UserError

# Of all that goes wrong on a network, OSErrors are most; ValueErrors are URLs that are none.
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)
CHUNK = 1 << 20
BY_HAND = "Put the file there by hand, or set `data_root` to the folder that has it."


def fetch(urls: tuple[str, ...], path: Path, sha256: str | None = None) -> Path:
    """The file at ``path``, downloaded if it is not there; returns ``path``.

    Raises:
        UserError: as `download` does, or if a file that is there has another SHA-256.
    """
    if not files.regular(path).is_file():
        download(urls, path, sha256)
    elif sha256 is not None and (found := files.sha256(path)) != sha256:
        raise UserError(
            path,
            found=f"a file with SHA-256 {found}",
            expected=f"SHA-256 {sha256}",
            remedy="It is cut off or another file: delete it to have it downloaded again, or give "
            "your own data a preset of its own, with its own `sha256` or `sha256: null`.",
        )
    return path


def download(
    urls: tuple[str, ...], path: Path, sha256: str | None = None, remedy: str = BY_HAND
) -> None:
    """Fetch a file from the first mirror that has it, tried in order.

    Nothing is written unless all of it arrived and has the SHA-256 that is given, if any.
    ``remedy`` is what to do where there is no network.

    Raises:
        UserError: if no mirror answers, or the file has another SHA-256.
    """
    failures = []
    for url in urls:
        try:
            with files.atomic(path) as temporary:
                print(f"downloading {shown(url)}", file=sys.stderr)
                with temporary.open("wb") as out:
                    out.writelines(_answer(url))
                if sha256 is not None and (found := files.sha256(temporary)) != sha256:
                    raise UserError(
                        shown(url),
                        found=f"a file with SHA-256 {found} (removed)",
                        expected=f"SHA-256 {sha256}",
                        remedy="The file changed or was cut off on its way: try again, or put "
                        f"the right one at {path} by hand.",
                    )
            return
        except NETWORK_ERRORS as error:
            failures.append(f"{shown(url)} ({_reason(error)})")
    raise UserError(
        path,
        found="no such file, and no answer from " + "; ".join(failures or ["any mirror"]),
        expected="the file in place, or a network to download it from",
        remedy=remedy,
    )


def _answer(url: str) -> Iterator[bytes]:
    """What a URL gives, in pieces.

    Raises:
        URLError, HTTPException, ValueError: if it gives nothing, or less than it declares.
        UserError: if it names a pipe or a device.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("a URL with a user's name or password, which are not sent")
    if parts.scheme == "file":
        files.regular(Path(urllib.request.url2pathname(parts.path)))
    try:
        # The URL is the configuration's, and what it gives is checked by its SHA-256.
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
            declared = answer.headers.get("Content-Length", "")
            size = 0
            while piece := answer.read(CHUNK):
                size += len(piece)
                yield piece
    except urllib.error.URLError:
        raise
    except OSError as error:
        # Not to be taken for the disk's.
        raise urllib.error.URLError(error) from error
    if declared.isdecimal() and size != int(declared):
        raise ValueError(f"cut off after {size:,} of {int(declared):,} bytes")


def shown(url: str) -> str:
    """A URL for people, without names, passwords and keys that may be in it."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _reason(error: Any) -> str:
    """What went wrong on a network, in a line."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    return " ".join(f"{code}{reason}".split())
