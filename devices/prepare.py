"""Datasets, and a briefly trained model and classifier, once for all columns (not measured).

    python prepare.py column        # Fashion-MNIST: dataset, checks, model, classifier
    python prepare.py unet          # CIFAR-10 as JPEG: the dataset file

MODEL=path imports a trained model instead. EPOCHS, CLASSIFIER_EPOCHS: how briefly to train; what a
model draws changes no time.
"""

import os
import sys

from common import PREPARED, column, report, snakemake, unet


def main() -> dict:
    limit = float(os.environ.get("LIMIT", "145"))
    if what == "unet":
        config = unet()
        seconds, _ = snakemake(PREPARED, config, f"results/data/{config['datasets'][0]}.safetensors", seconds=limit)
        return {"seconds": seconds}
    config = column()
    name = config["datasets"][0]
    targets = ["check", f"results/column/models/{name}_model.safetensors", f"results/column/classifiers/{name}.safetensors"]
    seconds, _ = snakemake(PREPARED, config, *targets, seconds=limit)
    return {"seconds": seconds, "targets": targets}


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "column"
    report(f"prepare-{what}", main)
