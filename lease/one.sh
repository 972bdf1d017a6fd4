# One training seed or data set on GPU G of NG, from data to scores.
. $L/env.sh; mkdir -p $W/out
BEST=refined-2-levels/2
if [ "$D" = cifar10_jpeg ]; then ROWS="uniform/2 uniform/4 ot/2 ot/4 ot/8 compensated/4 compensated/2 refined-4/4 refined-2-levels/2 refined-1/1"; REST="refined-4/4 refined-1/1"
elif [ "$D" = mnist ]; then ROWS="uniform/2 uniform/4 uniform/8 ot/2 ot/4 ot/8 compensated/4 priced-4/6 priced-3/6 priced-2/5 refined-2-levels/2 refined-1/1"; REST="refined-1/1"
else
 # The second GPU tries batches half as large for the same seconds.
 [ $G = 1 ] && BEST=refined-2-small/2
 ROWS="uniform/2 uniform/4 uniform/8 ot/2 ot/4 ot/8 compensated/4 priced-4/6 priced-3/6 priced-2/5 $BEST refined-3/3 refined-1/1"; REST="refined-1/1 refined-3/3"
fi
ROWS="${ONLY:-$ROWS}"; REST="${ONLYREST:-$REST}"; V="full"; for r in $ROWS; do V="$V ${r}bit"; done
if [ "${SUITE:-yes}" = yes ] && [ $G = 0 ]; then (cd $W/T; say suite; timeout 150 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt) & fi
smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; wait; touch $A/trained
# Several GPUs are measured together first (c1.sh).
while [ ! -e $W/go ]; do sleep .2; done
# Timed alone.
[ "$D" = cifar10_jpeg ] || smk $A 1 $(row priced-4/6); smk $A 1 $(row compensated/4)
if [ $BEST = refined-2-small/2 ]; then
 smk $A 1 $(row refined-2-probe/2)
 python3 - $A/$R/quantized_models/$D$T/refined-2-probe/2bit_refinement.jsonl > $A/small.yaml <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
first, last = rows[1], rows[-1]  # the first has the start in it
each = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
steps = min(80000, int((286 - first["seconds"]) / each) // 500 * 500)
print(f"methods: {{refined-2-small: {{refine: {{steps: {steps}}}}}}}  # {1000 * each:.3f} ms each, {first['seconds']:.1f} s until step {first['step']}")
PY
 cat $A/small.yaml; CONF="$CONF $A/small.yaml"
fi
smk $A 1 $(row $BEST); touch $A/best.done
# What matters most, first, where the second extractor's weights are here; they come with the second call.
[ -e $W/eff.done ] && smk $A 6 $(scores full ${BEST}bit) && evals $A
# All else at once.
smk $A 3 $(row $REST) $(samples $V); touch $A/samples.done
while [ ! -e $W/eff.done ]; do sleep 1; done
smk $A 12 $(scores $V); evals $A; touch $W/a$G.done
[ $G = 0 ] && [ -n "${EXTRA:-}" ] && . $L/$EXTRA
[ $G = $((NG - 1)) ] || exit  # the last GPU measures what is left
if [ "${MEASURE:-yes}" = yes ]; then
cp -r $A/results/. $B/results/; rm -rf $B/$R/sampling $B/$R/scores; C="$CONF $W/fp8.yaml" smk $B 3 $(scores full); evals $B | grep full | tee $W/out/fp8.txt
(cd $L/fast; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; say quality; timeout 130 python3 quality.py $W/out/quality.json $A/$R/models/${D}${T}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1)
(cd $L/fast; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$PYTHONPATH; say steps; timeout 60 python3 step.py $W/out/steps.json > $W/out/steps.txt 2>&1
 CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 60 python3 step.py $W/out/steps_nows.json > $W/out/steps_nows.txt 2>&1)
fi
touch $W/later
