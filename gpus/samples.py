"""What sampling came to: samples.py WALL_SECONDS_1 WALL_SECONDS_2, files and notes in WORK (c1, c2)."""
import json, sys
from common import OUT, WORK, save

from flowquant.report.timeline import end_of, read_timeline
from flowquant.sampling.samples import read_samples

import hashlib, torch

found, images = {}, {}
for n, wall in zip((1, 2), sys.argv[1:]):
    path = WORK / f"c{n}.safetensors"
    if not path.exists():
        continue
    images[n] = read_samples(path)[0]
    spans = read_timeline(WORK / f"c{n}.jsonl")
    own = max(map(end_of, spans)) - min(s.claimed for s in spans)
    found[f"{n} device(s)"] = {
        "wall_seconds": float(wall), "seconds_with_the_device": round(own, 2), "images": len(images[n]),
        "images_per_second": round(len(images[n]) / own, 1), "devices": sorted({s.device for s in spans}),
        "digest": hashlib.sha256(images[n].contiguous().numpy().tobytes()).hexdigest()[:16],
    }
line = "; ".join(f"{k}: {v['wall_seconds']} s, {v['seconds_with_the_device']} s with the device" for k, v in found.items())
if len(images) == 2 and images[1].shape == images[2].shape:
    apart = (images[1].int() - images[2].int()).abs()
    a, b = found.values()
    found |= {
        "equal": torch.equal(images[1], images[2]), "images_that_differ": int((apart.flatten(1).amax(1) > 0).sum()),
        "largest_difference": int(apart.max()), "speed_up_wall": round(a["wall_seconds"] / b["wall_seconds"], 3),
        "speed_up_with_the_device": round(a["seconds_with_the_device"] / b["seconds_with_the_device"], 3),
    }
    line += f"; x{found['speed_up_wall']} / x{found['speed_up_with_the_device']}, equal {found['equal']} ({found['images_that_differ']} differ, by at most {found['largest_difference']})"
save("c", found)
print("c: sampling,", line, flush=True)
