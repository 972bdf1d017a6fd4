"""Files from the network, checked before they are kept."""

import http.client
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

from flowquant.runtime import files
from flowquant.runtime.errors import UserError

NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)
BY_HAND = "Put the file there by hand, or set `data_root` to the folder that has it."


def fetch(urls: tuple[str, ...], path: Path, sha256: str | None = None) -> Path:
    """The file at ``path``, downloaded if it is not there; returns ``path``.

    Raises:
        UserError: as `download` does, or if a file that is there has another SHA-256.
    """
    if not path.is_file():
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
                print(f"downloading {url}", file=sys.stderr)
                # The URL is the configuration's, and what it gives is checked below.
                with urllib.request.urlopen(url, timeout=60) as answer, temporary.open("wb") as out:  # noqa: S310
                    shutil.copyfileobj(answer, out)
                if sha256 is not None and (found := files.sha256(temporary)) != sha256:
                    raise UserError(
                        url,
                        found=f"a file with SHA-256 {found} (removed)",
                        expected=f"SHA-256 {sha256}",
                        remedy="The file changed or was cut off on its way: try again, or put "
                        f"the right one at {path} by hand.",
                    )
            return
        except NETWORK_ERRORS as error:
            failures.append(f"{url} ({getattr(error, 'reason', error)})")
    raise UserError(
        path,
        found="no such file, and no answer from " + "; ".join(failures or ["any mirror"]),
        expected="the file in place, or a network to download it from",
        remedy=remedy,
    )
