#!/usr/bin/env bash
# Several GPUs, measured in phases on a machine of four: g4.sh PHASE GPUS SECONDS, PHASE one, two or four; the GPUs idle.
# Reads $L/env.sh; $W/A0 is a checkout with the model, the classifier and the data. JSON and logs in $W/out/gpus.
phase=$1 seen=$2; t0=$(date +%s); most=$(($3 * ${SLOW:-1}))
unset DEVICE STEPS; HERE=$(cd "$(dirname "$0")" && pwd)
G=0; . "$L/env.sh"
mkdir -p $W/out/gpus; export OUT=$W/out/gpus
A=$W/A0; P=$W/gpus; export WORK=$P/work TMPDIR=$P/tmp; mkdir -p $WORK $P/log $TMPDIR
COLUMN=${COLUMN:-$HERE/scaling.yaml}
MODEL=$A/$R/models/$D${T}_model.safetensors; CLASSIFIER=$A/$R/classifiers/$D.safetensors; DATA=$A/results/data/$D.safetensors
left() { echo $((most - ($(date +%s) - t0))); }
now() { date +%s.%N; }
since() { python3 -c "import sys,time; print(round(time.time() - float(sys.argv[1]), 2))" "$1"; }
ours() { env CUDA_VISIBLE_DEVICES="$seen" PYTHONPATH="$A/workflow:$HERE${PYTHONPATH:+:$PYTHONPATH}" "$@"; }
export -f ours; export A HERE D W seen
# part NAME CAP command…
part() {
  local name=$1 cap=$(($2 * ${SLOW:-1})) l s rc; shift 2; l=$(left); [ "$cap" -gt "$l" ] && cap=$l
  [ "$cap" -lt 8 ] && { echo "$name: skipped, $l s are left"; return 99; }
  s=$(now); timeout -k 4 "$cap" bash -c 'ours "$@"' _ "$@" > "$P/log/$name.log" 2>&1; rc=$?
  since $s > $WORK/$name.seconds
  grep -E "^[a-d]: " "$P/log/$name.log"; echo "$name: ended $rc after $(cat $WORK/$name.seconds) s, $(left) s are left"
  [ $rc -ne 0 ] && tr '\r' '\n' < "$P/log/$name.log" | grep -v "^$" | tail -n 4 | cut -c1-300
  return $rc
}
folder() {  # a copy of the checkout with what was trained, as run `scaling`
  local f=$P/G$1; mkdir -p "$f/results/scaling/models" "$f/results/scaling/classifiers" "$f/results/data"
  (cd "$A" && cp -r Snakefile workflow config profiles envs "$f/"; [ -d results/published ] && cp -r results/published "$f/results/")
  cp -p "$DATA" "$f/results/data/"
  for e in "$(dirname "$MODEL")/$D$T"_*; do cp -p "$e" "$f/results/scaling/models/$D${e#"$(dirname "$MODEL")/$D$T"}"; done
  cp -p "${CLASSIFIER%.safetensors}".* "$f/results/scaling/classifiers/"
}
targets() { local v; for v in full $(for m in uniform ot; do for b in ${BITS:-2 4 8 16}; do echo $m/${b}bit; done; done); do echo results/scaling/scores/$D/$v/seed0.json; done; }
snake() { local f=$1 seen=$2 log=$3; shift 3
  (cd "$f" && env CUDA_VISIBLE_DEVICES="$seen" python3 -m snakemake "$@" --cores "${CORES:-all}" --scheduler greedy --keep-going \
    --allowed-rules quantize sample real_features score plot_timeline timeline --config data_root="$W/data" --configfile "$COLUMN" > "$log" 2>&1); }
export -f snake; export COLUMN CORES
column() {  # column NUMBER CAP
  local n=$1 cap=$(($2 * ${SLOW:-1})) f=$P/G$1 s rc l wall; folder $n; l=$(left); [ "$cap" -gt "$l" ] && cap=$l
  s=$(now); timeout -k 4 "$cap" bash -c 'snake "$@"' _ "$f" "$seen" "$f/column.log" $(targets); rc=$?; wall=$(since "$s")
  echo "a$n: Snakemake ended $rc after $wall s, $(left) s are left"; [ $rc -ne 0 ] && tail -n 8 "$f/column.log" | cut -c1-300
  (timeout -k 4 $((60 * ${SLOW:-1})) bash -c 'snake "$@"' _ "$f" "${seen%%,*}" "$P/log/timeline$n.log" timeline
   ours timeout -k 4 $((60 * ${SLOW:-1})) python3 "$HERE/column.py" "$n" "$f" $rc $wall > "$P/log/told$n.log" 2>&1; grep "^a: " "$P/log/told$n.log" || tail -n 3 "$P/log/told$n.log"; rm -rf $f/results/scaling/sampling) &
}
sample() {  # sample N
  rm -f "$WORK/c$1.jsonl"
  FLOWQUANT_TIMELINE=$WORK/c$1.jsonl part "c$1" 90 python3 -m flowquant sample "$MODEL" --output="$WORK/c$1.safetensors" \
    --dataset="$D" --variant=full --seed=7 --sampling.solver=euler --sampling.steps="${SAMPLE_STEPS:-100}" --sampling.per-class="${PER_CLASS:-5000}" --devices="$1"
}
killed() {
  export KILL_AT=${KILL_AT:-37} CODES=""
  part k1 60 python3 "$HERE/train.py" stage $1 "$KILL_AT"; CODES="$?"
  if [ "$CODES" = 143 ]; then
    part k2 60 python3 "$HERE/train.py" stage $1 0; CODES="$CODES $?"
    RESUMED=$(tr '\r' '\n' < "$P/log/k2.log" | grep -o "resuming after step [0-9]*" | head -n 1); export RESUMED
    part compare 30 python3 "$HERE/train.py" compare $1
  fi
}
main() {
  case $phase in
    one) rm -rf $P; mkdir -p $WORK $P/log $TMPDIR; ours timeout 60 python3 "$HERE/train.py" data > "$P/log/data.log" 2>&1 || tail -n 3 "$P/log/data.log"
      column 1 260; part b1 100 python3 "$HERE/train.py" speed 1; sample 1; part d1 80 python3 "$HERE/refine.py" 1 "$MODEL" "$DATA";;
    two) column 2 150; part b2 70 python3 "$HERE/train.py" speed 2; sample 2;;
    four) column 4 110; part b4 70 python3 "$HERE/train.py" speed 4; sample 4; part d4 45 python3 "$HERE/refine.py" 4 "$MODEL" "$DATA"; killed 4;;
  esac
  touch $P/$phase.gpu
  part samples 40 python3 "$HERE/samples.py"
  wait; cp -f $P/log/*.log $OUT/; echo "$phase: done after $(($(date +%s) - t0)) s"
}
main 2>&1 | tee -a $W/out/gpus.txt
