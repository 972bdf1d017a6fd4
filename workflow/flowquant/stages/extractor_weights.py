"""The weights of a public extractor, downloaded or taken from a package, and checked."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from flowquant.config.extractors import PUBLISHED, PublicName
from flowquant.data.download import download
from flowquant.runtime import files
from flowquant.runtime.errors import UserError


def extractor_weights(
    extractor: Annotated[PublicName, tyro.conf.Positional],
    path: Path,
    urls: tuple[str, ...] = (),
    sha256: str | None = None,
) -> None:
    """Put an extractor's weights where runs look for them.

    Args:
        extractor: Whose.
        path: Where to keep them.
        urls: Mirrors, tried in order, in place of where the file is published.
        sha256: The SHA-256 it must have, in place of the published file's.

    Raises:
        UserError: if no mirror answers, a package is not installed, or what came has another
            SHA-256.
    """
    published = PUBLISHED[extractor]
    urls, wanted = urls or published.urls, sha256 or published.sha256
    by_hand = (
        f"Name a copy of {published.file} under `evaluation.weights.{extractor}.path`, or choose "
        "other `evaluation.extractors`: `classifier` needs no weights of others."
    )
    if urls:
        download(urls, path, wanted, remedy=by_hand)
        return
    assert published.package is not None
    package, name = published.package
    found = find_spec(package)
    if found is None or found.origin is None:
        raise UserError(
            f"configuration key `evaluation.extractors`: {extractor}",
            found=f"no package {package}",
            expected="it to be installed",
            remedy=f"Install it: `{published.install}`. {by_hand}",
        )
    source = Path(found.origin).parent / name
    if (digest := files.sha256(source)) != wanted:
        raise UserError(
            source,
            found=f"a file with SHA-256 {digest}",
            expected=wanted,
            remedy=f"Install the pinned version: `{published.install}`.",
        )
    with files.atomic(path) as temporary:
        shutil.copyfile(source, temporary)
