# One training seed on GPU G of NG, from data to scores.
. $L/env.sh; mkdir -p $W/out
BEST=refined-2-levels/2
if [ "$D" = cifar10_jpeg ]; then ROWS="uniform/2 uniform/4 ot/2 ot/4 ot/8 compensated/4 compensated/2 refined-4/4 refined-2-levels/2 refined-1/1"; REST="refined-4/4 refined-1/1"
elif [ "$D" = mnist ]; then ROWS="uniform/2 uniform/4 uniform/8 ot/2 ot/4 ot/8 compensated/4 priced-4/6 priced-3/6 priced-2/5 refined-2-levels/2 refined-1/1"; REST="refined-1/1"
else ROWS="uniform/2 uniform/4 uniform/8 ot/2 ot/4 ot/8 compensated/4 priced-4/6 priced-3/6 priced-2/5 refined-2-4800/5 refined-2-levels/2 refined-3/3 refined-1/1 refined-half/0.5"; REST="refined-1/1 refined-2-4800/5 refined-3/3 refined-half/0.5"; fi
ROWS="${ONLY:-$ROWS}"; REST="${ONLYREST:-$REST}"; V="full"; for r in $ROWS; do V="$V ${r}bit"; done
if [ "${SUITE:-yes}" = yes ] && [ $G = 0 ]; then (cd $W/T; say suite; timeout 120 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt); fi
smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; touch $A/trained
# Timed alone.
[ "$D" = cifar10_jpeg ] || smk $A 1 $(row priced-4/6); smk $A 1 $(row compensated/4); smk $A 1 $(row $BEST); touch $A/best.done
if [ "$D" = fmnist ] && python3 -c "import json, sys; sys.exit(json.load(open('$A/$(row $BEST)'))['velocity_error']['after'] < 5.4e-4)"; then
 say vectors; smk $A 1 $(row refined-2-vectors/2); V="${V/refined-2-4800\/5bit/refined-2-vectors\/2bit}"; V="${V/ refined-half\/0.5bit/}"; REST="refined-1/1 refined-3/3"
fi
# All else at once.
smk $A 3 $(row $REST) $(samples $V); touch $A/samples.done
# The second extractor's weights come with the second call.
while [ ! -e $W/eff.done ]; do sleep 1; done
smk $A 12 $(scores $V); evals $A; touch $W/a$G.done
[ $G = 0 ] && [ -n "${EXTRA:-}" ] && . $L/$EXTRA
if [ $G != $((NG - 1)) ] || [ "${MEASURE:-yes}" != yes ]; then [ $G = $((NG - 1)) ] && touch $W/later; exit; fi  # the last GPU measures what is left
cp -r $A/results/. $B/results/; C="$CONF $W/fp8.yaml" smk $B 3 $(scores full); evals $B | grep full | tee $W/out/fp8.txt
(cd $L/fast; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; say quality; timeout 130 python3 quality.py $W/out/quality.json $A/$R/models/${D}${T}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1)
(cd $L/fast; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; say steps; timeout 60 python3 step.py $W/out/steps.json > $W/out/steps.txt 2>&1
 CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 60 python3 step.py $W/out/steps_nows.json > $W/out/steps_nows.txt 2>&1)
touch $W/later
