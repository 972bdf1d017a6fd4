#!/usr/bin/env bash
# Runs the programs named, or all, one after another; none keeps the next from running.
#   all.sh "prepare.py column" "column.py 4" "column.py 2" "column.py 1"
# Each has SECONDS_EACH (150; column.py 1 takes longer) and prints one JSON line; the output of all is
# under $OUT, with table.py's tables in the end.
here=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python3}
export OUT=${OUT:-/tmp/measured/out}
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
mkdir -p "$OUT"
if [ $# = 0 ]; then
  set -- "prepare.py column" "prepare.py unet" "column.py 4" "column.py 2" "column.py 1" \
    "sample.py 1" "sample.py 2" "sample.py 4" "train.py 1" "train.py 2" "train.py 4" "resume.py 2" \
    "refine.py 1" "refine.py 2" "refine.py 4"
fi
for program in "$@"; do
  log="$OUT/$(echo "$program" | tr ' ' '-').log"
  most=${SECONDS_EACH:-150}
  [ "$program" = "column.py 1" ] && most=$((2 * most))
  timeout --kill-after=15 "$most" "$PYTHON" "$here"/$program 2> "$log" | tee -a "$log" | grep '^{"program"' \
    || echo "{\"program\": \"$program\", \"ok\": false, \"error\": \"see $log\"}"
done
"$PYTHON" "$here"/table.py "$OUT" | tee "$OUT/table.md"
