"""The stage `benchmark` for a preset, without Snakemake: speed.py DATASET FOLDER SECONDS."""
import sys
from pathlib import Path
from common import MODELS, training
from flowquant.config.sampling import SolverConfig
from flowquant.stages.benchmark import benchmark

name, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
first = name == "mnist"
benchmark(output=folder / f"{name}.json", table=folder / f"{name}.md", dataset=name, model=MODELS[name],
    training=training() if first else training(batch=32, learning_rate=1e-4, clip=1.0),
    solver=SolverConfig(steps=500 if first else 1000), images=1000, batch=500,
    extractor="classifier", seconds=seconds, device="cuda")
print((folder / f"{name}.md").read_text())
