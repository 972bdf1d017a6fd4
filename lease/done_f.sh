# Lanes of lease F: next.sh first|again|seed1, in folders of lane G (env.sh: which data, seed and GPU).
#  first: Fashion-MNIST's column timed, by itself; then, with what call 2 brought, FP8's FID and PSNR, refined-3 and half a bit of seed 0.
#  again: a training seed of which rows are missing (G=2: refined-2-levels and other projects' quantizers; G=1: these by its
#    third sampling seed, half a bit), trained again; weights come out the same: full's FIDs say so.
what=$1; . $L/env.sh; mkdir -p $W/out; CONF="$CONF $W/next.yaml"
wait_for() { for f in "$@"; do while [ ! -e $f ]; do sleep .3; done; done; }
few() { (cd $A; python3 $L/few.py $R/sampling/$D$T $W/few/$D$T); }
programs() { export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; cd $L/fast; }
by_seed() { n=$1; shift; for s in $ALL; do SEEDS=$s; smk $A $n $(scores "$@"); evals $A; done; SEEDS=$ALL; }
more() { wait_for $W/eff.done; export PYTHONPATH=$W/more:$PYTHONPATH; }
ALL=$SEEDS
PEERS="${PEERS:-hqq/4bit hqq/3bit hqq/2bit torchao/4bit torchao/3bit torchao/2bit quanto/4bit quanto/2bit sdnq/4bit sdnq/3bit sdnq/2bit sdnq-svd/4bit sdnq-svd/3bit sdnq-svd/2bit}"
case $what in
first)
  t=$(date +%s); C="$W/column.yaml" X="${COLX-${X:-}}" smk $A 4; echo "column $(($(date +%s) - t)) s" | tee $W/out/column.txt; cp $A/$R/logs/devices.jsonl $W/out/column.jsonl; touch $A/trained
  (programs; say quality; timeout 90 python3 quality.py $W/out/quality.json $A/$R/models/${D}${T}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1)
  more
  (cp -a $A/results/. $B/results/; rm -rf $B/$R/sampling $B/$R/scores/$D$T; C="$CONF $W/fp8.yaml" smk $B 3 $(scores full); evals $B | grep full | tee $W/out/fp8.txt)
  [ "${SUITE:-yes}" = yes ] && bash $L/next.sh suite &
  smk $A 1 $(row refined-3/3); smk $A 4 $(row refined-half/0.5) $(scores full refined-3/3bit); evals $A; smk $A 3 $(scores refined-half/0.5bit); evals $A; few
  # FP8 with the last, or the first, of the encoder's layers left in bfloat16: what each would save of FID.
  for v in last:-1 first:0; do
    Z=$B-${v%:*}; cp -a $B $Z; cat >> $Z/workflow/flowquant/models/fp8.py <<PY


_fuse = fuse_fp8


def fuse_fp8(network, inputs):
    left = [e.layers[${v#*:}] for e in network.modules() if isinstance(e, Encoder)]
    return _fuse(network, {layer: seen for layer, seen in inputs.items() if layer not in left})
PY
    (rm -rf $Z/$R/sampling $Z/$R/scores/$D$T; TRIG="--rerun-triggers mtime" C="$CONF $W/fp8.yaml" smk $Z 3 $(scores full); evals $Z | grep full | tee $W/out/fp8-${v%:*}.txt)
  done; touch $W/l$G.done
  [ -n "$THEN" ] && for x in $THEN; do G=${x%%:*} bash $L/next.sh ${x#*:}; done;;
again)
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  more
  if [ $S = 2 ]; then by_seed 4 full $PEERS; few; smk $A 1 $(row refined-2-levels/2); smk $A 3 $(scores refined-2-levels/2bit)
  else SEEDS=2; smk $A 4 $(row refined-half/0.5) $(scores full $PEERS); SEEDS=$ALL; smk $A 4 $(scores full refined-half/0.5bit); fi
  evals $A; few; touch $W/l$G.done
  [ -n "$THEN" ] && for x in $THEN; do G=${x%%:*} THEN= bash $L/next.sh ${x#*:}; done;;
suite)
  cd $W/T; say suite; timeout 200 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt;;
esac
