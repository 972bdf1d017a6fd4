"""Whether two lists of numbers rank the same things alike."""

from itertools import combinations


def _comparable(first: list[float], second: list[float]) -> bool:
    return len(first) >= 3 and len(set(first)) > 1 and len(set(second)) > 1


def rank_correlation(first: list[float], second: list[float]) -> float | None:
    """Spearman's ρ, or nothing for fewer than three pairs or constant ones."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic) if _comparable(first, second) else None


def concordance(first: list[float], second: list[float]) -> float | None:
    """Kendall's τ-b, or nothing for fewer than three pairs or constant ones."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic) if _comparable(first, second) else None


def swapped_gaps(values: list[float], reference: list[float]) -> list[float]:
    """How far apart the pairs that the two lists order differently are in the reference.

    Returns:
        For each such pair the larger reference value ÷ the smaller one, − 1; reference values
        are positive.
    """
    return [
        max(reference[i], reference[j]) / min(reference[i], reference[j]) - 1
        for i, j in combinations(range(len(values)), 2)
        if (values[i] - values[j]) * (reference[i] - reference[j]) < 0
    ]
