"""50,000 samples of the F-MNIST model on N GPUs: python sample.py N (after prepare.py column).

Seconds of `flowquant.stages.sample`, helpers' start and file included, after the imports; the digest
of the images, and how far they are from those of sample.py 1 where these are in WORK. STEPS (1000)
such that one GPU takes about a minute; PER_CLASS 5000.
"""

import hashlib
import os
import sys
import time

import torch
from common import DEVICE, PREPARED, TINY, WORK, column, report, run_of, section

from flowquant.config.sampling import SamplingConfig
from flowquant.sampling.samples import read_samples
from flowquant.stages.sample import sample


def main() -> dict:
    config = column()
    name = config["datasets"][0]
    steps = int(os.environ.get("STEPS", "3" if TINY else "1000"))
    per_class = int(os.environ.get("PER_CLASS", "30" if TINY else "5000"))
    batch = int(os.environ.get("BATCH", "50" if TINY else "1000"))
    settings = section(SamplingConfig, run_of(config).presets[name].sampling, steps=steps, per_class=per_class)
    output = WORK / f"samples-{count}.safetensors"
    started = time.monotonic()
    sample(
        model=PREPARED / f"results/column/models/{name}_model.safetensors",
        output=output,
        dataset=name,
        variant="full",
        seed=0,
        sampling=settings,
        batch=batch,
        device=DEVICE,
        devices=count,
    )
    seconds = time.monotonic() - started
    images = read_samples(output)[0]
    found = {
        "devices": count,
        "images": len(images),
        "steps": steps,
        "batch": batch,
        "seconds": round(seconds, 2),
        "images_per_second": round(len(images) / seconds, 1),
        "digest": hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:16],
    }
    one = WORK / "samples-1.safetensors"
    if count > 1 and one.exists():
        other = read_samples(one)[0]
        if other.shape == images.shape:
            apart = (images.int() - other.int()).abs()
            found |= {
                "equal_to_one_device": torch.equal(images, other),
                "images_that_differ": int((apart.flatten(1).amax(1) > 0).sum()),
                "pixels_that_differ": float((apart > 0).float().mean()),
                "largest_difference": int(apart.max()),
            }
    return found


if __name__ == "__main__":
    count = int(sys.argv[1])
    report(f"sample-{count}", main)
