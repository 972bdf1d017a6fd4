"""The Inception weights, downloaded and checked."""

from pathlib import Path

from flowquant.data.download import download

WITHOUT = (
    "Name a copy of the file under `evaluation.weights.path`, or take the features of each "
    "dataset's own classifier: `extractor: classifier` under `evaluation`."
)


def inception_weights(urls: tuple[str, ...], path: Path, sha256: str | None = None) -> None:
    """Fetch the weights from the first mirror that has them.

    Args:
        urls: The same file at several places, tried in order.
        path: Where to keep it.
        sha256: The SHA-256 it must have, if known.

    Raises:
        UserError: if no mirror answers, or what came has another SHA-256.
    """
    download(urls, path, sha256, remedy=WITHOUT)
