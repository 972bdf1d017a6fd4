"""Inception's weights: fetched, or what to do without them."""

from pathlib import Path

import pytest

from flowquant.runtime.errors import UserError
from flowquant.stages.inception_weights import inception_weights


def test_the_first_mirror_that_has_them(tmp_path: Path) -> None:
    mirror, path = tmp_path / "mirror.pth", tmp_path / "data/weights.pth"
    mirror.write_bytes(b"weights")
    inception_weights(urls=((tmp_path / "gone").as_uri(), mirror.as_uri()), path=path)
    assert path.read_bytes() == b"weights"


def test_without_a_network_two_keys_help(tmp_path: Path) -> None:
    """The data root does not: nobody looks for these weights there."""
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=r"no answer from file:.*gone") as told:
        inception_weights(urls=((tmp_path / "gone").as_uri(),), path=path)
    assert "`evaluation.weights.path`" in str(told.value)
    assert "`extractor: classifier`" in str(told.value)
    assert "data_root" not in str(told.value)
    assert not path.exists()
