# Lanes of lease H: next.sh fp8|again, in folders of lane G (env.sh: which data, seed and GPU).
#  fp8: seed 0 trained again; FP8 whose scales turn: seconds, PSNR, FID at 100 and 500 steps, with the first layer in bfloat16, too; what is left, emulated; GPU suite; benchmark.
#  again: seed 1 (G=1): the six peers' rows that lack the third sampling seed, half a bit; seed 2 (G=2): half a bit.
what=$1; . $L/env.sh; mkdir -p $W/out; CONF="$CONF $W/next.yaml"
wait_for() { for f in "$@"; do while [ ! -e $f ]; do sleep .3; done; done; }
few() { (cd $A; python3 $L/few.py $R/sampling/$D$T $W/few/$D$T); }
programs() { export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; cd $L/fast; }
more() { wait_for $W/eff.done; export PYTHONPATH=$W/more:$PYTHONPATH; }
# set NAME FOLDER [more configuration]: full precision's three sampling seeds, drawn and scored anew there
set_() { n=$1; b=$2; shift 2; (rm -rf $b/$R/sampling $b/$R/scores/$D$T; TRIG="--rerun-triggers mtime" C="$CONF $*" smk $b 3 $(scores full); evals $b | grep full | sed "s/^/$n /" | tee $W/out/$n.txt); }
ALL=$SEEDS
PEERS="${PEERS:-hqq/4bit hqq/3bit quanto/4bit sdnq/4bit sdnq/3bit sdnq/2bit}"
case $what in
fp8)
  M=$A/$R/models/${D}${T}_model.safetensors
  cp -a $W/T $W/F; sed -i 's/program = tl.num_programs(0) - 1 - tl.program_id(0)/program = tl.program_id(0)/' $W/F/workflow/flowquant/models/kernels/{norm,attention}.py
  (programs; say order; python3 order.py $W/out/order.json $W/T/models/fmnist-2bit.safetensors now > $W/out/order.txt 2>&1; PYTHONPATH=$W/F/workflow:$PYTHONPATH python3 order.py $W/out/order.json $W/T/models/fmnist-2bit.safetensors forward >> $W/out/order.txt 2>&1); touch $W/order.done
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  (programs; say quality; python3 quality2.py exact $W/out/exact.pt $M > $W/out/exact.txt 2>&1; python3 quality2.py times $W/out/times.json $M > $W/out/times.txt 2>&1; rm -f $W/out/exact.pt)
  more; echo "presets: {$D: {sampling: {steps: ${LONG:-500}}}}" > $W/long.yaml
  smk $A 3 $(scores full); evals $A
  cp -a $A/results/. $B/results/; set_ fp8 $B $W/fp8.yaml; set_ fp8-long $B $W/fp8.yaml $W/long.yaml
  Z=$B-all; cp -a $B $Z; sed -i 's/^KEPT = 1/KEPT = 0/' $Z/workflow/flowquant/models/fp8.py
  set_ all $Z $W/fp8.yaml
  cp -a $B $B-bf16; set_ bfloat16-long $B-bf16 $W/long.yaml
  [ "${SUITE:-yes}" = yes ] && (cd $W/T; say suite; timeout 200 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
  python3 - $M $W/out/model.pt <<'PY'
import sys, torch
from safetensors.torch import load_file
torch.save({k: v.bfloat16() for k, v in load_file(sys.argv[1]).items()}, sys.argv[2])
PY
  mkdir -p $W/shards; xz -T16 -3 -c $W/out/model.pt | split -b 15M - $W/shards/model.; rm $W/out/model.pt
  [ "${BENCH:-yes}" = yes ] && say benchmark && (timeout 280 bash -c '. $L/env.sh; C=$W/bench.yaml; X=${COLX-${X:-}}; smk $B 1 benchmark') > $W/out/benchmark.txt 2>&1 ; [ -d $B/results/h200-speed ] && cp $B/results/h200-speed/speed/* $W/out/
  set_ all-long $Z $W/fp8.yaml $W/long.yaml
  Y=$B-stay; cp -a $B $Y; sed -i 's/^TURNS = .*/TURNS = 0.0/' $Y/workflow/flowquant/sampling/fp8.py; set_ stay $Y $W/fp8.yaml
  (programs; say explore; python3 explore.py $M $W/data/fashion-mnist $(find $W/more -name '*.pth' | head -1) $W/out/explore.json H 100 ${FEW:-1000} ${LONG:-500} > $W/out/explore.txt 2>&1)
  touch $W/l$G.done;;
again)
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  more
  if [ $S = 1 ]; then SEEDS=2; smk $A 4 $(scores full $PEERS); evals $A; few; SEEDS=$ALL; fi
  smk $A 1 $(row refined-half/0.5); smk $A 3 $(scores full refined-half/0.5bit); evals $A; few; touch $W/l$G.done
  [ -n "$THEN" ] && for x in $THEN; do G=${x%%:*} THEN= bash $L/next.sh ${x#*:}; done;;
esac
