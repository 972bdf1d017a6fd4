#!/usr/bin/env bash
# Several GPUs, measured, on a machine of two:  L=/tmp/L bash g.sh SECONDS_AVAILABLE OUT_FOLDER
# Reads W, D, R and the environment of $L/env.sh; $W/A is a checkout with $R/models/${D}_model.safetensors,
# $R/classifiers/$D.safetensors and results/data/$D.safetensors. Both GPUs must be idle. A JSON for each part in
# OUT_FOLDER, a line each on the screen, and all of it, with logs, in OUT_FOLDER.txz, renewed after each part.
#   a1 ‖ (b1 c1 d1)   a2   b2   c2   d2   killed     (a: column, b: training, c: sampling, d: refinement)
# PARTS="a b c d k": fewer.
# Knobs for a rehearsal: TINY=1, PER_CLASS, SAMPLE_STEPS, CORES, BITS, COLUMN (yaml), SLOW (times every limit).
t0=$(date +%s)
unset DEVICE STEPS
HERE=$(cd "$(dirname "$0")" && pwd)
most=$((${1:?seconds} - 6))
mkdir -p "${2:?folder}"; export OUT=$(cd "$2" && pwd)
. "${L:-/tmp/L}/env.sh"
A=$W/A0; G=$W/gpus; export WORK=$G/work; PARTS=${PARTS:-a b c d k}
COLUMN=${COLUMN:-$HERE/scaling.yaml}
MODEL=$A/$R/models/$D${T}_model.safetensors; CLASSIFIER=$A/$R/classifiers/$D.safetensors; DATA=$A/results/data/$D.safetensors
for name in a1 a2 b1 b2 b-killed c d1 d2; do rm -f "$OUT/$name.json"; done
rm -rf "$G"; mkdir -p "$WORK" "$G/log"
left() { echo $((most - ($(date +%s) - t0))); }
now() { date +%s.%N; }
await() { [ -z "${1:-}" ] || wait "$1"; }
since() { python3 -c "import sys,time; print(round(time.time() - float(sys.argv[1]), 2))" "$1"; }
wants() { case " $PARTS " in *" $1 "*) true;; *) false;; esac; }
pack() { ( flock 9 2> /dev/null; cp -f "$G"/log/*.log "$OUT"/ 2>/dev/null; cd "$OUT" && tar cJf "$OUT.txz.new" . 2>/dev/null; mv -f "$OUT.txz.new" "$OUT.txz" ) 9> "$G/packing"; }
# at_most N: N seconds, or the fewer that are left, but time for a line
at_most() { local n=$(($1 * ${SLOW:-1})) l; l=$(left); [ "$l" -lt 4 ] && l=4; [ "$n" -gt "$l" ] && n=$l; echo "$n"; }
# part NAME ESTIMATE CAP command…: in at most CAP s and what is left, unless less than ESTIMATE is; its log is kept
part() {
  local name=$1 estimate=$2 cap=$(($3 * ${SLOW:-1})) l; shift 3; l=$(left)
  if [ "$l" -lt "$estimate" ]; then echo "$name: skipped, $l s are left of $estimate"; return 99; fi
  [ "$cap" -gt "$l" ] && cap=$l
  local s; s=$(now)
  timeout -k 4 "$cap" "$@" > "$G/log/$name.log" 2>&1; local rc=$?
  grep -E "^[a-d]: " "$G/log/$name.log"
  echo "$name: ended $rc after $(since "$s") s, $(left) s are left"
  [ $rc -ne 0 ] && tr '\r' '\n' < "$G/log/$name.log" | grep -v "^$" | tail -n 4 | cut -c1-300
  return $rc
}
# ours GPUS program…: the package of $W/A, on those GPUs
ours() { local seen=$1; shift; env CUDA_VISIBLE_DEVICES="$seen" PYTHONPATH="$A/workflow:$HERE${PYTHONPATH:+:$PYTHONPATH}" "$@"; }
export -f ours; export A HERE D W
in_parts() { part "$1" "$2" "$3" bash -c 'ours "$@"' _ "${@:4}"; }

folder() {  # folder NAME: a copy of the checkout with what was trained, as run `scaling`
  local f=$G/$1; mkdir -p "$f/results/scaling/models" "$f/results/scaling/classifiers" "$f/results/data"
  (cd "$A" && cp -r Snakefile workflow config profiles envs "$f/"; [ -d results/published ] && cp -r results/published "$f/results/")
  cp -p "$DATA" "$f/results/data/"
  for e in "$(dirname "$MODEL")/$D$T"_*; do cp -p "$e" "$f/results/scaling/models/$D${e#"$(dirname "$MODEL")/$D$T"}"; done
  cp -p "${CLASSIFIER%.safetensors}".* "$f/results/scaling/classifiers/"
}
targets() {
  local r=results/scaling v
  for v in full $(for m in uniform ot; do for b in ${BITS:-2 4 8 16}; do echo $m/${b}bit; done; done); do
    echo $r/scores/$D/$v/seed0.json
  done
}
# snake FOLDER GPUS log words…: Snakemake with the default profile; nothing that was trained is a job
snake() { local f=$1 seen=$2 log=$3; shift 3
  (cd "$f" && env CUDA_VISIBLE_DEVICES="$seen" python3 -m snakemake "$@" --cores "${CORES:-all}" --scheduler greedy --keep-going \
    --allowed-rules quantize sample real_features score plot_timeline timeline \
    --config data_root="$W/data" --configfile "$COLUMN" > "$log" 2>&1); }
export -f snake; export COLUMN CORES
column() {  # column NUMBER GPUS CAP
  local n=$1 cap=$(($3 * ${SLOW:-1})) f=$G/G$1 s rc l wall; l=$(left); [ "$cap" -gt "$l" ] && cap=$l
  s=$(now); timeout -k 4 "$cap" bash -c 'snake "$@"' _ "$f" "$2" "$f/column.log" $(targets); rc=$?; wall=$(since "$s")
  echo "a$n: Snakemake ended $rc after $wall s, $(left) s are left"
  [ $rc -ne 0 ] && tail -n 8 "$f/column.log" | cut -c1-300
  echo "$rc $wall" > "$G/G$n.ended"
}
told() {  # told NUMBER: time line and JSON, on the CPU
  local n=$1 f=$G/G$1; [ -e "$G/G$n.ended" ] || return
  timeout -k 4 $(at_most 60) bash -c 'snake "$@"' _ "$f" "$GPUSEEN0" "$G/log/timeline$n.log" timeline
  ours "$GPUSEEN0" timeout -k 4 $(at_most 60) python3 "$HERE/column.py" "$n" "$f" $(cat "$G/G$n.ended") > "$G/log/told$n.log" 2>&1
  grep "^a: " "$G/log/told$n.log" || tail -n 3 "$G/log/told$n.log"
}
GPUSEEN0=0 GPUSEEN1=1 BOTH=0,1
sample() {  # sample N GPUS
  rm -f "$WORK/c$1.jsonl"
  FLOWQUANT_TIMELINE=$WORK/c$1.jsonl in_parts "c$1" "${3:-20}" "${4:-80}" "$2" python3 -m flowquant sample "$MODEL" --output="$WORK/c$1.safetensors" \
    --dataset="$D" --variant=full --seed=7 --sampling.solver=euler --sampling.steps="${SAMPLE_STEPS:-100}" --sampling.per-class="${PER_CLASS:-5000}" --devices="$1"
}
seconds_of() { grep "^c$1: ended" "$G/log/said" 2>/dev/null | tail -n 1 | sed 's/.*after \([0-9.]*\) s.*/\1/'; }
compare_samples() { ours "$GPUSEEN0" timeout -k 4 $(at_most 40) python3 "$HERE/samples.py" "$(seconds_of 1 | grep . || echo 0)" "$(seconds_of 2 | grep . || echo 0)" > "$G/log/samples.log" 2>&1; grep "^c: " "$G/log/samples.log" || tail -n 3 "$G/log/samples.log"; }
singles() {  # singles GPU letters…: what one device does
  local g=$1 p; shift
  for p in "$@"; do wants $p || continue; case $p in
    b) in_parts b1 20 100 "$g" python3 "$HERE/train.py" speed 1;;
    c) sample 1 "$g" 20 90;;
    d) in_parts d1 15 80 "$g" python3 "$HERE/refine.py" 1 "$MODEL" "$DATA";;
  esac; done
}
main() {
  local made=""
  nvidia-smi --query-gpu=index,utilization.gpu,memory.used --format=csv,noheader 2>/dev/null
  for f in "$MODEL" "$CLASSIFIER" "$DATA"; do [ -e "$f" ] || echo "MISSING $f"; done
  if wants b || wants k; then { ours "" timeout -k 4 $(at_most 60) python3 "$HERE/train.py" data > "$G/log/data.log" 2>&1 || tail -n 3 "$G/log/data.log"; } & made=$!; fi
  if wants a; then
    folder G1
    if [ "$(left)" -ge "${LEAST:-200}" ]; then
      column 1 "$GPUSEEN0" 220 & local one=$!
      folder G2; await $made
      ( cat > "$G/four.yaml" <<Y
presets: {$D: {sampling: {devices: 4}}}
Y
        cd "$G/G2" && CUDA_VISIBLE_DEVICES=$BOTH timeout -k 4 $(at_most 60) python3 -m snakemake -n --cores all --scheduler greedy --configfile "$COLUMN" "$G/four.yaml" > "$G/log/refused.log" 2>&1
        echo "a: four devices of two GPUs: exit $?, $(grep -o 'key `presets.*' "$G/log/refused.log" | head -n 1 | cut -c1-200)" ) &
      singles "$GPUSEEN1" b c d
      wait $one; told 1 &
      if [ "$(left)" -ge 55 ]; then column 2 "$BOTH" 130; else echo "a2: skipped, $(left) s are left"; fi
    else
      echo "a: skipped, $(left) s are left of ${LEAST:-200}"; await $made; singles "$GPUSEEN0" b & singles "$GPUSEEN1" c d; wait
    fi
  else
    await $made; singles "$GPUSEEN0" b & singles "$GPUSEEN1" c d; wait
  fi
  pack & 
  wants b && { in_parts b2 25 80 "$BOTH" python3 "$HERE/train.py" speed 2; pack & }
  wants c && { sample 2 "$BOTH" 20 60; }
  (wants c && compare_samples; [ -e "$G/G2.ended" ] && told 2; pack) &
  wants d && { in_parts d2 15 60 "$BOTH" python3 "$HERE/refine.py" 2 "$MODEL" "$DATA"; pack & }
  if wants k; then
    export KILL_AT=${KILL_AT:-37} CODES=""
    in_parts k1 28 60 "$BOTH" python3 "$HERE/train.py" stage 2 "$KILL_AT"; CODES="$?"
    if [ "$CODES" = 143 ]; then
      in_parts k2 18 60 "$BOTH" python3 "$HERE/train.py" stage 2 0; CODES="$CODES $?"
      RESUMED=$(tr '\r' '\n' < "$G/log/k2.log" | grep -o "resuming after step [0-9]*" | head -n 1); export RESUMED
      [ -e "$WORK/reference.2" ] || PLACE=whole in_parts k3 20 60 "$BOTH" python3 "$HERE/train.py" stage 2 0
      ours "" timeout -k 4 $(at_most 30) python3 "$HERE/train.py" compare 2 > "$G/log/compare.log" 2>&1; grep "^b: " "$G/log/compare.log" || tail -n 3 "$G/log/compare.log"
    fi
  fi
  wait; pack
  echo "done after $(($(date +%s) - t0)) s; $OUT.txz has $(stat -c %s "$OUT.txz") bytes"
}
main 2>&1 | tee "$G/log/said"
cp -f "$G/log/said" "$OUT/said.txt"; pack
