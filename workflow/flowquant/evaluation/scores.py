"""How well predicted classes match the requested ones."""

from torch import Tensor


def accuracy(labels: Tensor, predicted: Tensor) -> float:
    """Share 0…1 of predicted classes int64 [N] that are the labels int64 [N]."""
    return int((predicted == labels).sum()) / len(labels)


def scores(labels: Tensor, predicted: Tensor) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over classes by their number of samples.

    Classes requested and predicted are int64 [N]; one that is never predicted has precision 0. Each
    of ``accuracy``, ``precision``, ``recall`` and ``f1`` is 0…1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        labels.numpy(), predicted.numpy(), average="weighted", zero_division=0
    )
    return {
        "accuracy": accuracy(labels, predicted),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }
