"""What sampling came to: files and notes in WORK (cN), seconds in WORK/cN.seconds."""
import hashlib, torch
from common import WORK, save
from flowquant.report.timeline import end_of, read_timeline
from flowquant.sampling.samples import read_samples

found, images = {}, {}
for n in (1, 2, 4):
    path = WORK / f"c{n}.safetensors"
    if not path.exists():
        continue
    images[n] = read_samples(path)[0]
    spans = read_timeline(WORK / f"c{n}.jsonl")
    own = max(map(end_of, spans)) - min(s.claimed for s in spans)
    found[f"{n} device(s)"] = {
        "wall_seconds": float((WORK / f"c{n}.seconds").read_text()), "seconds_with_the_device": round(own, 2), "images": len(images[n]),
        "images_per_second": round(len(images[n]) / own, 1), "devices": sorted({s.device for s in spans}),
        "digest": hashlib.sha256(images[n].contiguous().numpy().tobytes()).hexdigest()[:16],
    }
    if n > 1 and 1 in images:
        apart, one = (images[1].int() - images[n].int()).abs(), found["1 device(s)"]
        row = found[f"{n} device(s)"]
        row |= {
            "equal": torch.equal(images[1], images[n]), "images_that_differ": int((apart.flatten(1).amax(1) > 0).sum()),
            "largest_difference": int(apart.max()), "speed_up_wall": round(one["wall_seconds"] / row["wall_seconds"], 3),
            "speed_up_with_the_device": round(one["seconds_with_the_device"] / row["seconds_with_the_device"], 3),
        }
        print(f"c: {n} devices: {row['wall_seconds']} s for {one['wall_seconds']}, x{row['speed_up_wall']} / x{row['speed_up_with_the_device']}, equal {row['equal']} ({row['images_that_differ']} differ, by at most {row['largest_difference']})", flush=True)
save("c", found)
