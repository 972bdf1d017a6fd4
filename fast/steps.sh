#!/bin/bash
# One step of measuring on a lent GPU: bash steps.sh STEP. Run in the repository's root, this folder
# carried as .lease, the wheels as .whl. Everything goes to $OUT (JSON, text).
#   1 tests    make test-gpu's pytest                                   (≤ 5 min)
#   2 micro    kernels' tile sizes swept, against cuBLAS                (≤ 6 min)
#   3 profile  top kernels of a sampling step and of a training step    (≤ 4 min)
#   4 quality  a network trained 6,000 steps: PSNR of FP8 and packed    (≤ 4 min)
#   5 speed    the stage `benchmark` for mnist (60 s) and cifar10 (60 s)(≤ 8 min)
#   6 fused    experiments: LayerNorm and GELU in a product's epilogue, warps of attention (≤ 4 min)
set -u
HERE=$(dirname "$(realpath "$0")")
OUT=${OUT:-/tmp/out}; mkdir -p "$OUT"
if ls .whl/*.whl >/dev/null 2>&1 && [ ! -e /tmp/site/.done ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl && touch /tmp/site/.done || exit 1
fi
export PYTHONPATH="$PWD/workflow:$PWD/tests:$HERE:/tmp/site" PYTHONUNBUFFERED=1 TRITON_INTERPRET=0
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.draw --format=csv,noheader | tee "$OUT/card_$1.txt"
case "$1" in
1|tests)
    set -o pipefail
    timeout 540 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider --durations 15 --maxfail 60 --tb short 2>&1 | tee "$OUT/gpu_tests.txt"
    ;;
2|micro) timeout 540 python3 "$HERE/micro.py" "$OUT/micro.json" 2>&1 | tee "$OUT/micro.txt" ;;
6|fused) timeout 400 python3 "$HERE/fused.py" "$OUT/fused.json" 2>&1 | tee "$OUT/fused.txt" ;;
3|profile) timeout 540 python3 "$HERE/profile_steps.py" "$OUT/profile.json" 2>&1 | tee "$OUT/profile.txt" ;;
4|quality) timeout 540 python3 "$HERE/quality.py" "$OUT/quality.json" "$HERE/data" 2>&1 | tee "$OUT/quality.txt" ;;
5|speed)
    for dataset in mnist cifar10; do
        timeout 270 python3 "$HERE/speed.py" $dataset "$OUT" 60 2>&1 | tee "$OUT/speed_$dataset.txt"
    done
    ;;
*) echo "no step $1"; exit 2 ;;
esac
