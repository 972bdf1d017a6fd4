# Lanes of lease E: next.sh seed0|again|mnist, on GPU G of NG (env.sh).
#  seed0 (first GPU): GPU suite, Fashion-MNIST's column timed, training seed 0's rows.
#  again: a training seed of which only rows are missing, trained again (weights come out the same: full's FIDs say so), with
#    other projects' quantizers; then with its GPU rows of seed 0.
#  mnist (last GPU): the benchmark, MNIST, FP8's FID and PSNR of the first lane's model.
what=$1; . $L/env.sh; mkdir -p $W/out; [ "$D" = mnist ] || CONF="$CONF $W/next.yaml"
wait_for() { for f in "$@"; do while [ ! -e $f ]; do sleep .3; done; done; }
real() { for s in $SEEDS; do echo $R/scores/$D/real/seed$s.json; done; }
few() { (cd $A; python3 $L/few.py $R/sampling/$D$T $W/few/$D$T); }
programs() { export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; cd $L/fast; }
# other TARGETS: of seed 0, on this lane's GPU
other() { (gpu=$G; G=0; . $L/env.sh; CONF="$CONF $W/next.yaml"; export CUDA_VISIBLE_DEVICES=$gpu; smk $A 1 $(row "$@") --nolock); }
PLAIN="${PLAIN:-full uniform/2bit uniform/4bit uniform/8bit ot/2bit ot/4bit ot/8bit compensated/4bit priced-4/6bit priced-3/6bit priced-2/5bit}"
PEERS="${PEERS:-hqq/4bit hqq/3bit hqq/2bit torchao/4bit torchao/3bit torchao/2bit quanto/4bit quanto/2bit sdnq/4bit sdnq/3bit sdnq/2bit sdnq-svd/4bit sdnq-svd/3bit sdnq-svd/2bit}"
case $what in
seed0)
  [ "${SUITE:-yes}" = yes ] && (cd $W/T; say suite; timeout 150 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
  t=$(date +%s); C="$W/column.yaml" X="${X:-}" smk $A 4; echo "column $(($(date +%s) - t)) s" | tee $W/out/column.txt; cp $A/$R/logs/devices.jsonl $W/out/column.jsonl; touch $A/trained
  smk $A 1 $(row compensated/4); smk $A 1 $(row priced-4/6); touch $A/timed
  smk $A 1 $(row refined-2-levels/2)
  wait_for $W/eff.done
  smk $A 4 $(row refined-1/1) $(scores refined-2-levels/2bit $PLAIN) $(real); evals $A; few
  [ $NG -gt 2 ] || smk $A 1 $(row refined-3/3)
  smk $A 4 $(scores $PEERS); evals $A
  [ $NG -gt 2 ] && wait_for $W/rows0.done $W/rows1.done
  V="refined-1/1bit refined-3/3bit"; [ $NG -gt 2 ] && V="$V refined-half/0.5bit refined-2-small/2bit"
  smk $A 8 $(scores $V); evals $A; few; touch $W/l$G.done;;
again)
  [ $S = 1 ] && BEST=refined-2-small/2 || BEST=refined-2-levels/2
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  smk $A 1 $(row refined-2-1000/5); smk $A 1 $(row refined-2-4800/5); smk $A 1 $(row $BEST)
  wait_for $W/eff.done
  smk $A 4 $(row refined-half/0.5) $(scores full refined-2-1000/5bit refined-2-4800/5bit ${BEST}bit $PEERS); evals $A; few
  smk $A 4 $(scores refined-half/0.5bit); evals $A; few; touch $W/l$G.done
  wait_for $W/A0/timed
  if [ $S = 1 ]; then other refined-2-small/2; touch $W/rows0.done; else other refined-3/3 refined-half/0.5; touch $W/rows1.done; fi;;
mnist)
  say benchmark; (C=$W/bench.yaml X="${X:-}" timeout 300 bash -c '. $L/env.sh; C=$W/bench.yaml smk $B 1 benchmark') > $W/out/benchmark.txt 2>&1; cp $B/results/h200-speed/speed/* $W/out/
  (programs; say groups; CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 75 python3 groups.py $W/out/groups.json 60 > $W/out/groups.txt 2>&1)
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  smk $A 3 $(row refined-2-levels/2 refined-1/1) $(samples $PLAIN)
  wait_for $W/eff.done
  smk $A 6 $(scores $PLAIN refined-2-levels/2bit refined-1/1bit) $(real); evals $A; few; touch $W/mnist.done
  wait_for $W/A0/trained
  (gpu=$G; G=0; . $L/env.sh; export CUDA_VISIBLE_DEVICES=$gpu; cp -r $A/results/. $B/results/; rm -rf $B/$R/sampling $B/$R/scores; C="$CONF $W/fp8.yaml" smk $B 3 $(scores full); evals $B | grep full | tee $W/out/fp8.txt
   programs; say quality; timeout 140 python3 quality.py $W/out/quality.json $A/$R/models/${D}${T}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1)
  touch $W/l$G.done;;
esac
