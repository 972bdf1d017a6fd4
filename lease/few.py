"""Ten samples of each class of each variant, seed 0, for grids: few.py SAMPLING_FOLDER OUT_FOLDER."""
import sys
from pathlib import Path
import torch
sys.path.insert(0, "workflow")
from flowquant.sampling.samples import read_samples, write_samples
root, out = Path(sys.argv[1]), Path(sys.argv[2])
for f in sorted(root.rglob("seed0.safetensors")):
    to = out / f.relative_to(root)
    if to.exists(): continue
    images, labels, origin = read_samples(f)
    keep = torch.cat([(labels == c).nonzero()[:10, 0] for c in labels.unique()])
    to.parent.mkdir(parents=True, exist_ok=True)
    write_samples(to, images[keep].clone(), labels[keep].clone(), origin)
