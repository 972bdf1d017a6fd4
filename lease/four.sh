# One of four lanes, or what coordinates them: four.sh seed|mnist|cifar|coordinate|suite
# GPU 0 and 1: Fashion-MNIST's training seeds 1 and 2. GPU 2: MNIST, all that one GPU is measured with, others' refined-3.
# GPU 3: CIFAR-10, at its end with GPU 2.
what=$1; . $L/env.sh; mkdir -p $W/out; echo $$ > $W/$what$G.sid
wait_for() { for f in "$@"; do while [ ! -e $f ]; do sleep .3; done; done; }
real() { for s in $SEEDS; do echo $R/scores/$D/real/seed$s.json; done; }
few() { (cd $A; python3 $L/few.py $R/sampling/$D$T $W/few/$D$T); }
programs() { export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; cd $L/fast; }
PLAIN="${PLAIN:-full uniform/2bit uniform/4bit uniform/8bit ot/2bit ot/4bit ot/8bit compensated/4bit priced-4/6bit priced-3/6bit priced-2/5bit}"
case $what in
suite)  # before the data are here
  ([ "${SUITE:-yes}" = yes ] || exit; G=0; . $L/env.sh; cd $W/T; say suite; timeout 150 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt) &
  (G=1; . $L/env.sh; [ "${SUITE:-yes}" = yes ] || { touch $W/steps.done; exit; }; programs; say steps; timeout 45 python3 step.py $W/out/steps.json > $W/out/steps.txt 2>&1
   CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 30 python3 step.py $W/out/steps_nows.json > $W/out/steps_nows.txt 2>&1; touch $W/steps.done) &
  wait;;
seed)
  [ $G = 1 ] && { BEST=refined-2-small/2; wait_for $W/steps.done; } || BEST=refined-2-levels/2
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  smk $A 1 $(row priced-4/6); smk $A 1 $(row compensated/4); touch $A/timed
  if [ $G = 1 ]; then
    smk $A 1 $(row refined-2-probe/2)
    python3 $L/probe.py $A/$R/quantized_models/$D$T/refined-2-probe/2bit_refinement.jsonl > $A/small.yaml; cat $A/small.yaml; CONF="$CONF $A/small.yaml"
  fi
  smk $A 1 $(row $BEST); touch $A/best.done
  wait_for $W/go $W/eff.done
  smk $A 4 $(row refined-1/1) $(scores ${BEST}bit $PLAIN) $(real); touch $A/plain.done; evals $A; few
  wait_for $A/refined-3.done
  smk $A 6 $(scores refined-1/1bit refined-3/3bit); evals $A; few; touch $W/a$G.done
  if [ $G = 1 ]; then
    cp -r $A/results/. $B/results/; rm -rf $B/$R/sampling $B/$R/scores; C="$CONF $W/fp8.yaml" smk $B 3 $(scores full); evals $B | grep full | tee $W/out/fp8.txt; touch $W/fp8.done
  else
    ([ "${MEASURE:-yes}" = yes ] || exit; programs; say quality; timeout 130 python3 quality.py $W/out/quality.json $A/$R/models/$D${T}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1); touch $W/quality.done
  fi;;
mnist)
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  wait_for $W/A0/trained
  bash $L/four/g4.sh one 2 ${ONE_SECONDS:-400} > $W/g1.log 2>&1; touch $W/one.done
  for g in 0 1; do
    wait_for $W/A$g/timed
    (G=$g; . $L/env.sh; export CUDA_VISIBLE_DEVICES=2; [ $g = 1 ] && [ -e $A/small.yaml ] && CONF="$CONF $A/small.yaml"; smk $A 1 $(row refined-3/3) --nolock; touch $A/refined-3.done)
  done
  smk $A 3 $(row refined-2-levels/2 refined-1/1 priced-3/6)
  smk $A 4 $(scores $PLAIN refined-2-levels/2bit refined-1/1bit) $(real); evals $A; few; touch $W/a$G.done;;
cifar)
  CONF="$CONF $W/cifar4.yaml"
  smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
  smk $A 3 $(scores full) $(real) $(row compensated/4); evals $A; few
  (export CUDA_VISIBLE_DEVICES=2; smk $A 2 $(row refined-1/1 refined-4/4) --nolock) &
  smk $A 4 $(row refined-2-levels/2) $(scores compensated/4bit ${CIFAR:-compensated/2bit uniform/2bit uniform/4bit ot/2bit ot/4bit ot/8bit}); evals $A; few
  smk $A 4 $(scores refined-2-levels/2bit); evals $A; few; wait
  smk $A 4 $(scores refined-1/1bit refined-4/4bit); evals $A; few; touch $W/a$G.done;;
coordinate)
  wait_for $W/A0/best.done $W/A1/best.done $W/one.done
  bash $L/four/g4.sh two 0,1 ${TWO_SECONDS:-190} > $W/g2.log 2>&1 & wait_for $W/gpus/two.gpu
  pkill -STOP -s $(cat $W/mnist2.sid); pkill -STOP -s $(cat $W/cifar3.sid); sleep 1.5; nvidia-smi --query-gpu=index,utilization.gpu --format=csv,noheader
  say paused; bash $L/four/g4.sh four 0,1,2,3 ${FOUR_SECONDS:-200} > $W/g4.log 2>&1 & while [ ! -e $W/gpus/four.gpu ] && [ -d /proc/$! ]; do sleep .3; done
  pkill -CONT -s $(cat $W/cifar3.sid); pkill -CONT -s $(cat $W/mnist2.sid); say resumed; touch $W/go; wait; touch $W/g.done;;
esac
