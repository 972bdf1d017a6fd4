"""FID of one variant for each solver and number of evaluations of its velocity, in one process."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from flowquant.config.extractors import ExtractorName
from flowquant.config.sampling import BATCH, SolverConfig, SweepConfig
from flowquant.evaluation.extract import extract
from flowquant.evaluation.features import check_comparable, read_features
from flowquant.evaluation.frechet import Reference
from flowquant.models.solver import STEPS
from flowquant.quantization.variant import load_variant
from flowquant.report.caveats import warn_of_few_images
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.generate import generate, labels_to_sample


def solver_configs(settings: SweepConfig) -> list[SolverConfig]:
    """Each solver with each number of evaluations, ``dopri5`` with each tolerance.

    A solver of second order evaluates twice a step: it takes half as many steps, rounded down.
    """
    found = []
    for solver in settings.solvers:
        config = SolverConfig(
            solver=solver, steps=1, guidance=settings.guidance, precision=settings.precision
        )
        if solver == "dopri5":  # which chooses its own steps
            found += [replace(config, tolerance=tolerance) for tolerance in settings.tolerances]
        else:
            steps = (evaluations // STEPS[solver][1] for evaluations in settings.evaluations)
            found += [replace(config, steps=count) for count in dict.fromkeys(steps)]
    return found


def sweep(
    model: Path,
    real: Path,
    weights: Path,
    output: Path,
    dataset: str,
    variant: str,
    seed: int,
    extractor: ExtractorName,
    settings: SweepConfig,
    data: Path | None = None,
    batch: int = BATCH,
    packed: bool = False,
    device: DeviceName = "auto",
    training_seed: int = 0,
) -> None:
    """Sample a variant with all solvers and score each set of samples.

    Args:
        model: The variant's weights.
        real: Features of the real test images, by the same extractor and weights.
        weights: The extractor's weights.
        output: JSON to write: a row for each solver and number of evaluations.
        dataset: Name to write into it.
        variant: Name to write into it.
        training_seed: The seed that the model was trained with, to write into it.
        seed: Of the noise; the same for all rows.
        extractor: Which network FID's features are of.
        settings: Solvers, evaluations and tolerances; number, condition and guidance of samples.
        data: Dataset file, for the attributes of its test images.
        batch: Images integrated at a time.
        packed: Keep quantized matrices packed in memory and expand them as needed.
        device: Where to compute.

    Raises:
        UserError: if the real features come from other weights, or test images are too few.
    """
    network, config = load_variant(model, packed)
    labels = labels_to_sample(config.condition, settings.per_class, settings.condition, data)
    of_real = read_features(real, extractor, sha256(weights))
    target = choose_device(device)
    reference = Reference(of_real.features, target)
    rows, size = [], of_real.features.shape[1]
    warn_of_few_images(len(labels), len(of_real.features), size)
    for solver in solver_configs(settings):
        started = time.monotonic()
        images, evaluations = generate(network, config, labels, solver, seed, batch, target)
        seconds = time.monotonic() - started
        features, _ = extract(images, extractor, weights, target)
        check_comparable(real, of_real, features)
        adaptive = solver.solver == "dopri5"
        rows.append(
            {
                "solver": solver.solver,
                "steps": None if adaptive else solver.steps,
                "tolerance": solver.tolerance if adaptive else None,
                "evaluations": evaluations,
                "fid": reference.distance(features),
                "seconds": round(seconds, 3),
            }
        )
        print(rows[-1], file=sys.stderr)
    report = {
        "dataset": dataset,
        "variant": variant,
        "training_seed": training_seed,
        "seed": seed,
        "n": len(labels),
        "n_real": len(of_real.features),
        "extractor": extractor,
        "features": size,
        "weights_sha256": of_real.digest,
        "guidance": settings.guidance,
        "rows": rows,
    }
    write_json(output, report)
