. $L/env.sh
smk $W/A 0 1 $R/models/${D}_model.safetensors
touch $W/trained
python3 - $W/A/$R/models/${D}_model.safetensors $W/back <<'PY'
import os, sys
from safetensors.torch import load_file, save_file
os.makedirs(sys.argv[2], exist_ok=True)
parts, size = [{}], 0
for n, t in load_file(sys.argv[1]).items():
    t = t.half().contiguous(); b = t.numel() * 2
    if size + b > 15 * 2**20: parts.append({}); size = 0
    parts[-1][n] = t; size += b
for i, p in enumerate(parts): save_file(p, f"{sys.argv[2]}/full{i}.safetensors")
PY
C="$CONF $W/trials.yaml" smk $W/A 0 4 $(sed "s|^|$R/quantized_models/$D/|" $W/first.txt)
touch $W/tried
