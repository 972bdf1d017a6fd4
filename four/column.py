"""What a column came to: column.py N FOLDER EXIT_CODE WALL_SECONDS [FOLDER_OF_1]; CSV, figure and JSON."""
import csv, hashlib, json, re, shutil, sys
from itertools import groupby
from pathlib import Path

from common import OUT, load, save

from flowquant.report.timeline import busy, end_of, read_timeline, shared
from flowquant.sampling.samples import read_samples

count, folder, code, wall = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
root = folder / "results/scaling"
said = (folder / "column.log").read_text(errors="replace")
spans = read_timeline(root / "logs/devices.jsonl")
window = max(map(end_of, spans))
devices = {d: list(own) for d, own in groupby(spans, key=lambda s: s.device)}


def gaps(own):
    """Seconds between one job's end on a device and the next one's claim: idle while work waits."""
    own = sorted(own, key=lambda s: s.claimed)
    return [round(b.claimed - end_of(a), 3) for a, b in zip(own, own[1:])]


times = {}
for path in sorted((root / "benchmarks").rglob("*.tsv")):
    times[str(path.relative_to(root / "benchmarks"))[:-4]] = float(path.read_text().split("\n")[1].split("\t")[0])
images = {}
for path in sorted((root / "sampling").rglob("*.safetensors")):
    images[str(path.relative_to(root / "sampling"))] = hashlib.sha256(read_samples(path)[0].contiguous().numpy().tobytes()).hexdigest()[:16]
fids = {str(p.relative_to(root / "scores").parent): json.loads(p.read_text())["evaluation"]["classifier"]["fid"] for p in sorted((root / "scores").rglob("seed0.json"))}
found = {
    "gpus": count, "exit_code": code, "wall_seconds": wall, "first_to_last_job_seconds": round(window, 2),
    "provided": re.findall(r"^Provided resources: .*$", said, re.M), "cores": re.findall(r"^Provided cores: .*$", said, re.M),
    "jobs_by_stage": {s: sum(1 for x in spans if x.stage == s) for s in sorted({x.stage for x in spans})},
    "in_use": {d: round(busy(own, window), 3) for d, own in devices.items()},
    "given_to_jobs": {d: round(busy(own, window, whole=True), 3) for d, own in devices.items()},
    "two_jobs_at_once": {d: shared(own) for d, own in devices.items()},
    "gaps_between_jobs": {d: {"count": len(g), "sum": round(sum(g), 2), "largest": max(g, default=0)} for d, own in devices.items() for g in [gaps(own)]},
    "ends_of_devices": {d: round(max(map(end_of, own)), 2) for d, own in devices.items()},
    "seconds_by_stage": {}, "fid": fids, "images": images, "seconds": times,
}
for stage in found["jobs_by_stage"]:
    own = [end_of(s) - s.claimed for s in spans if s.stage == stage and s.ended is not None]
    whole = [end_of(s) - s.started for s in spans if s.stage == stage and s.ended is not None]
    if own:
        found["seconds_by_stage"][stage] = {"with_the_device": round(sum(own) / len(own), 2), "with_its_start": round(sum(whole) / len(whole), 2)}
line = ""
one = load("a1") if count > 1 else None
if one:
    found["speed_up"] = round(one["wall_seconds"] / wall, 3)
    found["speed_up_first_to_last_job"] = round(one["first_to_last_job_seconds"] / window, 3)
    found["same_images"] = one["images"] == images
    found["same_fid"] = one["fid"] == fids
    line = f", x{found['speed_up']} (jobs x{found['speed_up_first_to_last_job']}), same images {found['same_images']}"
save(f"a{count}", found)
for source, name in ((root / "timeline.csv", f"a{count}_timeline.csv"), (root / "plots/timeline.png", f"a{count}_timeline.png"), (root / "plots/timeline.svg", f"a{count}_timeline.svg"), (root / "logs/devices.jsonl", f"a{count}_devices.jsonl"), (folder / "column.log", f"a{count}.log")):
    if source.exists():
        shutil.copy(source, OUT / name)
print(f"a: column on {count} GPU(s): {wall} s, exit {code}, {len(spans)} jobs, in use {found['in_use']}, given {found['given_to_jobs']}, two at once {found['two_jobs_at_once']}, gaps {found['gaps_between_jobs']}{line}", flush=True)
