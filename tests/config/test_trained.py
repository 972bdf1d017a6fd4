"""Names of trained models: the training's seed after the dataset's name."""

import pytest

from flowquant.config.trained import Training
from flowquant.runtime.errors import UserError


@pytest.mark.parametrize(("seed", "suffix"), [(0, ""), (1, "-seed1"), (20, "-seed20")])
def test_a_suffix_comes_back(seed: int, suffix: str) -> None:
    assert str(Training(seed)) == suffix
    assert Training.parse(suffix) == Training(seed)


@pytest.mark.parametrize("suffix", ["-seed0", "-seed01", "seed1", "-seed", "-1", "-seed1 "])
def test_others_are_refused(suffix: str) -> None:
    with pytest.raises(UserError, match=r"found .*; expected nothing for training seed 0"):
        Training.parse(suffix)
