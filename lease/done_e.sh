# Lanes of lease E: next.sh seed0|rest|again|mnist|measure, in folders of lane G (env.sh: which data, seed and GPU).
#  seed0: Fashion-MNIST's column timed, training seed 0's rows, other projects' quantizers, the GPU suite beside.
#  rest (another GPU): measure, then mnist, then again for two training seeds (G 1, 2), one's scores beside another's training.
#  measure: the benchmark, packed weights by groups, FP8's FID and PSNR of seed 0's model.
#  again: a training seed of which only other projects' quantizers are missing, trained again (weights come out the same: full's FIDs say so).
what=$1; . $L/env.sh; mkdir -p $W/out; [ "$D" = mnist ] || CONF="$CONF $W/next.yaml"
wait_for() { for f in "$@"; do while [ ! -e $f ]; do sleep .3; done; done; }
real() { for s in $SEEDS; do echo $R/scores/$D/real/seed$s.json; done; }
few() { (cd $A; python3 $L/few.py $R/sampling/$D$T $W/few/$D$T); }
programs() { export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; cd $L/fast; }
# by sampling seed, so that what time cuts off is the last seed of all
by_seed() { n=$1; shift; for s in $ALL; do SEEDS=$s; smk $A $n $(scores "$@"); evals $A; done; }
ALL=$SEEDS
PLAIN="${PLAIN:-full uniform/2bit uniform/4bit uniform/8bit ot/2bit ot/4bit ot/8bit compensated/4bit priced-4/6bit priced-3/6bit priced-2/5bit}"
PEERS="${PEERS:-hqq/4bit hqq/3bit hqq/2bit torchao/4bit torchao/3bit torchao/2bit quanto/4bit quanto/2bit sdnq/4bit sdnq/3bit sdnq/2bit sdnq-svd/4bit sdnq-svd/3bit sdnq-svd/2bit}"
case $what in
seed0)
  t=$(date +%s); C="$W/column.yaml" X="${COLX-${X:-}}" smk $A 4; echo "column $(($(date +%s) - t)) s" | tee $W/out/column.txt; cp $A/$R/logs/devices.jsonl $W/out/column.jsonl; touch $A/trained
  smk $A 1 $(row compensated/4); smk $A 1 $(row priced-3/6); smk $A 1 $(row priced-2/5); touch $A/timed
  smk $A 1 $(row refined-2-levels/2)
  [ "${SUITE:-yes}" = yes ] && (cd $W/T; say suite; timeout 200 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt) &
  wait_for $W/eff.done
  smk $A 4 $(row refined-1/1) $(scores refined-2-levels/2bit $PLAIN) $(real); evals $A; few
  smk $A 4 $(scores refined-1/1bit $PEERS); evals $A; few
  smk $A 1 $(row refined-3/3); smk $A 3 $(scores refined-3/3bit); evals $A; few; touch $W/l$G.done;;
measure)
  say benchmark; (timeout 280 bash -c '. $L/env.sh; C=$W/bench.yaml; X=${COLX-${X:-}}; smk $B 1 benchmark') > $W/out/benchmark.txt 2>&1; cp $B/results/h200-speed/speed/* $W/out/
  (programs; say groups; CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 75 python3 groups.py $W/out/groups.json 50 > $W/out/groups.txt 2>&1)
  wait_for $W/A0/trained $W/eff.done
  (gpu=$CUDA_VISIBLE_DEVICES; G=0; . $L/env.sh; export CUDA_VISIBLE_DEVICES=$gpu; cp -a $A/results/. $B/results/; rm -rf $B/$R/sampling $B/$R/scores/$D$T; C="$CONF $W/fp8.yaml" smk $B 3 $(scores full); evals $B | grep full | tee $W/out/fp8.txt
   programs; say quality; timeout 90 python3 quality.py $W/out/quality.json $A/$R/models/${D}${T}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1); say measured;;
mnist)
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  smk $A 3 $(row refined-2-levels/2 refined-1/1) $(samples $PLAIN); touch $A/refined
  smk $A 4 $(scores $PLAIN refined-2-levels/2bit refined-1/1bit) $(real); evals $A; few; touch $W/l$G.done;;
again)
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  by_seed 4 full $PEERS; few; touch $W/l$G.done;;
rest)
  mine=$G; bash $L/next.sh measure
  bash $L/next.sh mnist & wait_for $W/A$mine/refined
  G=1 bash $L/next.sh again & wait_for $W/A1/trained
  G=2 bash $L/next.sh again; wait;;
esac
