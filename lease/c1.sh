cd $ROOT; t0=$(date +%s); echo $t0 > /tmp/t0; bash .lease/prep.sh; rm -rf /tmp/L; cp -r .lease /tmp/L; export L=/tmp/L; tar xJf .lease/extras.tar.xz -C /tmp/site; cp -r .test /tmp/T/; nvidia-smi -L
setsid bash /tmp/L/a.sh > /tmp/a.log 2>&1 &
setsid bash /tmp/L/b.sh > /tmp/b.log 2>&1 &
(cd /tmp/T; export PYTHONPATH=/tmp/site CUDA_VISIBLE_DEVICES=1 OMP_NUM_THREADS=2
timeout 100 python3 -m pytest -m gpu tests/gpu --numprocesses 8 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $OUT/gpu_tests.txt 2>&1
export PYTHONPATH=/tmp/T/workflow:/tmp/T/tests:/tmp/L/fast:/tmp/site PYTHONUNBUFFERED=1
timeout 60 python3 /tmp/L/fast/few.py $OUT/few.json > $OUT/few.txt 2>&1
timeout 90 python3 /tmp/L/fast/quality.py $OUT/quality.json /tmp/data/fashion-mnist > $OUT/quality.txt 2>&1)
touch /tmp/measured; . /tmp/L/env.sh
while [ ! -e /tmp/trained ]; do sleep 1; done
python3 - $W/A/$R/models/${D}_model.safetensors $OUT <<'PY'
import sys
from safetensors.torch import load_file, save_file
parts, size = [{}], 0
for n, t in load_file(sys.argv[1]).items():
    t = t.half().contiguous(); b = t.numel() * 2
    if size + b > 15 * 2**20: parts.append({}); size = 0
    parts[-1][n] = t; size += b
for i, p in enumerate(parts): save_file(p, f"{sys.argv[2]}/full{i}.safetensors")
PY
while [ $(($(date +%s) - t0)) -lt ${1:-570} ]; do sleep 1; done
tail -n 12 $OUT/gpu_tests.txt | cut -c1-200; cat $OUT/few.txt | tail -n 20; tail -n 14 $OUT/quality.txt; bash $L/show.sh
