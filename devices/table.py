"""All results under OUT (or the folders named) as Markdown tables: python table.py [FOLDER ...]."""

import json
import os
import sys
from pathlib import Path

folders = [Path(word) for word in sys.argv[1:]] or [Path(os.environ.get("OUT", "/tmp/measured/out"))]
found = {}
for path in sorted(p for folder in folders for p in folder.glob("*.json")):
    content = json.loads(path.read_text())
    if "program" in content:
        found[content["program"]] = content


def rows(kind):
    named = [(name.rpartition("-")[2], row) for name, row in found.items() if name.startswith(f"{kind}-")]
    return [(int(number), row) for number, row in named if number.isdigit() and row["ok"]]


columns = sorted(rows("column"), key=lambda pair: pair[0])
print(next(iter(found.values()), {}).get("machine"))
if columns:
    one = dict(columns).get(1)
    print("\n| GPUs | column, s | times 1 GPU | first to last job, s | in use | given to jobs | two at once | same images |\n|--:|--:|--:|--:|:--|:--|--:|:--|")
    for n, row in columns:
        times = f"{one['seconds'] / row['seconds']:.2f}" if one else "-"
        same = "-" if not one else row["images"] == one["images"]
        shares = [" ".join(f"{v:.0%}" for v in row[k].values()) for k in ("in_use", "given_to_jobs")]
        print(f"| {n} | {row['seconds']} | {times} | {row['seconds_first_to_last_job']} | {shares[0]} | {shares[1]} | {sum(row['two_jobs_at_once'].values())} | {same} |")
samples = sorted(rows("sample"), key=lambda pair: pair[0])
if samples:
    one = dict(samples).get(1)
    print("\n| GPUs | 50,000 images, s | times 1 GPU | digest | equal | images that differ |\n|--:|--:|--:|:--|:--|--:|")
    for n, row in samples:
        times = f"{one['seconds'] / row['seconds']:.2f}" if one else "-"
        print(f"| {n} | {row['seconds']} | {times} | {row['digest']} | {row.get('equal_to_one_device', '-')} | {row.get('images_that_differ', '-')} |")
trained = sorted(rows("train"), key=lambda pair: pair[0])
if trained:
    print("\n| GPUs | batch | steps/s | images/s | times 1 GPU | peak GiB | loss, last 50 | furthest mean of 25 |\n|--:|--:|--:|--:|--:|--:|--:|--:|")
    base = {r["batch"]: r for n, row in trained if n == 1 for r in row["rows"]}
    for n, row in trained:
        for r in row["rows"]:
            if "error" in r:
                print(f"| {n} | {r['batch']} | {r['error'][:60]} |")
                continue
            one = base.get(r["batch"], {}).get("steps_per_second")
            times = f"{r['steps_per_second'] / one:.2f}" if one else "-"
            print(f"| {n} | {r['batch']} | {r['steps_per_second']} | {r['images_per_second']} | {times} | {r.get('peak_gib', '-')} | {r['loss_last_50']:.4f} | {r.get('loss_means_of_25_largest_relative', '-')} |")
refined = sorted(rows("refine"), key=lambda pair: pair[0])
if refined:
    print("\n| GPUs | refined | batch | steps/s | times 1 GPU | loss, last 50 | furthest loss |\n|--:|:--|--:|--:|--:|--:|--:|")
    for n, row in refined:
        for r in row["rows"]:
            if "error" in r:
                print(f"| {n} | {r['net']} | {r['batch']} | {r['error'][:80]} |")
                continue
            print(f"| {n} | {r['net']} | {r['batch']} | {r['steps_per_second']} | {r.get('speed_up', 1)} | {r['losses'][-1]:.3g} | {r.get('loss_largest_relative', '-')} |")
for name, row in found.items():
    if name.startswith("resume"):
        print(f"\n{name}: killed at {row.get('killed_at_step')} of {row.get('steps')}, same weights {row.get('same_weights')}, curve within {row.get('curve_largest_relative_difference')}")
for name, row in found.items():
    if not row["ok"]:
        print(f"\n{name} FAILED: {row['error'][:300]}")
