"""Whether two lists rank alike."""

import pytest

from flowquant.report.ranking import concordance, rank_correlation, swapped_gaps


def test_correlations_of_ranks() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [5, 4, 1]) == pytest.approx(-1)
    assert concordance([3, 2, 1], [10, 20, 30]) == pytest.approx(-1)
    for correlation in (rank_correlation, concordance):
        assert correlation([1, 2], [1, 2]) is None
        assert correlation([1, 1, 1], [1, 2, 3]) is None


def test_how_far_swapped_pairs_are_apart() -> None:
    assert swapped_gaps([2, 1, 5], [4, 5, 10]) == [0.25]
    assert swapped_gaps([1, 1], [4, 5]) == []  # a tie is no other order
