"""Where a run's numbers mean little: what to say of it in logs, tables and figures."""

import sys
from collections.abc import Mapping, Sequence

from flowquant.config.variants import Variant
from flowquant.report.tables import Row

# The share of its reference accuracy that a classifier must reach to be believed.
LEAST_SHARE = 0.9
FEW_IMAGES, WEAK_CLASSIFIER, BELOW_FLOOR = "few_images", "weak_classifier", "below_floor"
MEANINGS = {
    FEW_IMAGES: "no more images, sampled or real, than features: FID's covariances are singular, "
    "and FID compares only with that of as many images",
    WEAK_CLASSIFIER: f"the classifier is right on less than {LEAST_SHARE:.0%} of what the dataset "
    "allows (`classifier.reference_accuracy`): what it says and sees of samples means little",
    BELOW_FLOOR: "real images' own FID is not the lowest: differences below it are noise",
}


def warn(what: str, caveat: str) -> None:
    """Say in the log that of ``what`` a key of `MEANINGS` holds."""
    print(f"warning: {what}: {MEANINGS[caveat]}", file=sys.stderr)


def few_images(n: int, n_real: int, features: int) -> bool:
    """Whether a covariance that FID compares, of n images' features, is singular: its rank is at
    most n − 1."""
    return min(n, n_real) <= features


def warn_of_few_images(n: int, n_real: int, features: int) -> None:
    """Say so in the log, where `few_images` is true."""
    if few_images(n, n_real, features):
        warn(f"{n} samples, {n_real} real images, {features} features", FEW_IMAGES)


def weak_classifier(accuracy: float, reference: float) -> bool:
    """Whether a classifier's accuracy on real test images is far below the dataset's reference."""
    return accuracy < LEAST_SHARE * reference


def caveats(rows: Sequence[Row], references: Mapping[str, float]) -> list[list[str]]:
    """The keys of `MEANINGS` that hold for each row of `summary.table_rows`.

    Args:
        rows: The table; a caveat is about a row's own numbers.
        references: What accuracy each dataset with a classifier allows, 0…1; 1 if not said.
    """
    floors = {row["dataset"]: row["fid"] for row in rows if row["variant"] == Variant("real")}
    crossed = {
        row["dataset"] for row in rows if row["fid"] < floors.get(row["dataset"], row["fid"])
    }

    def of(row: Row) -> list[str]:
        dataset, accuracy = row["dataset"], row["real_accuracy"]
        judged = row["extractor"] == "classifier" or row["accuracy"] is not None
        found = {
            FEW_IMAGES: few_images(row["n"], row["n_real"], row["features"]),
            WEAK_CLASSIFIER: judged
            and accuracy is not None
            and weak_classifier(accuracy, references.get(dataset, 1)),
            BELOW_FLOOR: dataset in crossed and row["fid"] <= floors[dataset],
        }
        return [name for name, holds in found.items() if holds]

    return [of(row) for row in rows]


def concerning(metric: str, rows: Sequence[Row]) -> list[str]:
    """Which of some rows' caveats are about ``metric``: fid, is, accuracy; one dataset's rows."""
    held = {name for row in rows for name in row["caveats"].split()}
    seen = metric == "accuracy" or rows[0]["extractor"] == "classifier"
    about = {FEW_IMAGES: metric == "fid", BELOW_FLOOR: metric == "fid", WEAK_CLASSIFIER: seen}
    return [name for name in MEANINGS if name in held and about[name]]
