"""Scores of a classifier against a confusion matrix done by hand."""

import pytest
import torch

from flowquant.evaluation.scores import scores


def test_scores_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 1, 1, 0, 0])
    found = scores(labels, predicted)
    precisions, recalls = [2 / 4, 1 / 2, 0], [2 / 3, 1 / 2, 0]
    f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precisions, recalls, strict=True)]
    weights = [3 / 6, 2 / 6, 1 / 6]
    assert found["accuracy"] == pytest.approx(3 / 6)
    for name, values in (("precision", precisions), ("recall", recalls), ("f1", f1)):
        by_hand = sum(w * v for w, v in zip(weights, values, strict=True))
        assert found[name] == pytest.approx(by_hand)
