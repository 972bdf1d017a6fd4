"""The column after training on the first N GPUs, timed: python column.py N (after prepare.py column).

Quantize, sample, evaluate, downstream, collect and plot nine variants in a fresh copy of what was
prepared; nothing prepared may run again. LIMIT: seconds until it is given up (145; on one GPU 285).
"""

import hashlib
import json
import os
import re
import shutil
import sys
from itertools import groupby

from common import OUT, PREPARED, WORK, column, report, snakemake

from flowquant.report.timeline import busy, end_of, read_timeline, shared
from flowquant.sampling.samples import read_samples
from flowquant.stages.plot_timeline import plot_timeline


def main() -> dict:
    folder, config = WORK / f"column-{gpus}", column()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PREPARED / "results", folder / "results", symlinks=True)
    places = [folder / f"results/column/{name}/devices.jsonl" for name in ("logs", "benchmarks")]
    for place in places:
        place.unlink(missing_ok=True)
    limit = float(os.environ.get("LIMIT", "145" if gpus > 1 else "285"))
    seconds, said = snakemake(folder, config, seconds=limit, gpus=gpus)
    table = said.partition("Job stats:")[2].partition("total")[0]
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    again = {"train", "classifier", "import_model", "dataset", "check_preset"} & set(jobs)
    noted = next(place for place in places if place.exists())
    spans = read_timeline(noted)
    window = max(map(end_of, spans))
    devices = {d: list(own) for d, own in groupby(spans, key=lambda s: s.device)}
    plot_timeline(noted, OUT / f"column-{gpus}_timeline.csv", (OUT / f"column-{gpus}_timeline.png",), 150)
    shutil.copy(noted, OUT / f"column-{gpus}_devices.jsonl")
    shutil.copy(folder / "snakemake.log", OUT / f"column-{gpus}_snakemake.log")
    shutil.copy(folder / "results/column/summary.csv", OUT / f"column-{gpus}_summary.csv")
    times = sorted((folder / "results/column/benchmarks").rglob("*.tsv"))
    rows = [(str(p.relative_to(folder / "results/column/benchmarks"))[:-4], p.read_text().split("\n")[1].split("\t")[0]) for p in times]
    (OUT / f"column-{gpus}_seconds.csv").write_text("job,seconds\n" + "".join(f"{a},{b}\n" for a, b in rows))
    images = {}
    for path in sorted((folder / "results/column/sampling").rglob("*.safetensors")):
        drawn = read_samples(path)[0]
        key = str(path.relative_to(folder / "results/column/sampling"))
        images[key] = hashlib.sha256(drawn.contiguous().numpy().tobytes()).hexdigest()[:16]
    return {
        "gpus": gpus,
        "seconds": round(seconds, 2),
        "seconds_first_to_last_job": round(window, 2),
        "jobs": sum(jobs.values()),
        "made_again": sorted(again),
        "in_use": {d: round(busy(own, window), 3) for d, own in devices.items()},
        "given_to_jobs": {d: round(busy(own, window, whole=True), 3) for d, own in devices.items()},
        "two_jobs_at_once": {d: shared(own) for d, own in devices.items()},
        "images": images,
        "steps": next(iter(config["presets"].values()))["sampling"]["steps"],
    }


if __name__ == "__main__":
    gpus = int(sys.argv[1])
    report(f"column-{gpus}", main)
