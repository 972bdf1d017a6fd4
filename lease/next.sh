# Lanes of lease J: next.sh score|measure. Seed 0's weights, rounded to bfloat16 (lease H brought them), in model.safetensors.
what=$1; . $L/env.sh; mkdir -p $W/out; CONF="$CONF $W/next.yaml"
wait_for() { for f in "$@"; do while [ ! -e $f ]; do sleep .3; done; done; }
programs() { export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; cd $L/fast; }
M=$W/model.safetensors REAL="$R/evaluation/$D/classifier.features.safetensors $R/evaluation/$D/efficientnet-lite0.features.safetensors"
case $what in
score)
  smk $A 1 $R/classifiers/$D.safetensors > $W/classifier.log 2>&1 & c=$!
  wait_for $W/eff.done $M; export PYTHONPATH=$W/more:$PYTHONPATH
  echo "presets: {$D: {sampling: {steps: ${LONG:-500}}}}" > $W/long.yaml
  export TRIG="--rerun-triggers mtime"
  for z in bf16 fp8 bf16-long fp8-long; do
    cp -a $B $B-$z; mkdir -p $B-$z/$R/models; cp $M $B-$z/$R/models/${D}_model.safetensors; echo '{}' > $B-$z/$R/models/${D}_model.json; touch $B-$z/$R/models/${D}_training.jsonl; done
  conf() { case $1 in bf16) echo;; fp8) echo $W/fp8.yaml;; bf16-long) echo $W/long.yaml;; fp8-long) echo $W/fp8.yaml $W/long.yaml;; esac; }
  for z in bf16 fp8 fp8-long bf16-long; do C="$CONF $(conf $z)" smk $B-$z 3 $(samples full); done
  wait $c; smk $A 2 $REAL
  for z in bf16 fp8 fp8-long bf16-long; do (cp -a $A/results/. $B-$z/results/
    C="$CONF $(conf $z)" smk $B-$z 3 $(scores full); evals $B-$z | sed "s/^/$z /" | tee $W/out/$z.txt) & done; wait
  touch $W/l$G.done;;
measure)
  [ "${SUITE:-yes}" = yes ] && (cd $W/T; say suite; timeout 200 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
  wait_for $M
  (programs; say quality; python3 quality2.py exact $W/out/exact.pt $M > $W/out/exact.txt 2>&1; python3 quality2.py times $W/out/times.json $M > $W/out/times.txt 2>&1; rm -f $W/out/exact.pt)
  say benchmark; (C=$W/bench.yaml; smk $B 1 benchmark) > $W/out/benchmark.txt 2>&1; [ -d $B/results/h200-speed ] && cp $B/results/h200-speed/speed/* $W/out/
  touch $W/l$G.done;;
esac
