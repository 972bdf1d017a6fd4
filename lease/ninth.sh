# One GPU, one thing after another, in one folder.
. $L/env.sh; mkdir -p $W/out; export CUDA_VISIBLE_DEVICES=0
(cd $W/T; say suite; timeout 120 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
P=$PYTHONPATH; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$P
(cd $L/fast; say profile; timeout 100 python3 profile_steps.py $W/out/profile.json mnist > $W/out/profile.txt 2>&1
 say without workspaces; NEVER=1 CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 30 python3 profile_steps.py $W/out/profile_nows.json mnist > $W/out/profile_nows.txt 2>&1)
export PYTHONPATH=$P; touch $W/measured
# The column: train and classifier side by side, four jobs at once.
t=$(date +%s); C="$W/column.yaml" X="${XC:-}" smk $W/A 0 4; echo "column $(($(date +%s) - t)) s" | tee $W/out/column.txt; touch $W/trained
smk $W/A 0 1 $(row priced-4/7)
smk $W/A 0 1 $(row refined-2-levels/2)
smk $W/A 0 6 $(scores classifier "$SEEDS" full refined-2-levels/2bit); touch $W/b.done; evals $W/A
smk $W/A 0 1 $(row refined-3/3)
smk $W/A 0 1 $(row refined-2-4800/5)
smk $W/A 0 9 $(scores classifier "$SEEDS" refined-3/3bit refined-2-4800/5bit priced-4/7bit)
touch $W/a.done
(cd $L/fast; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$P; say quality; timeout 100 python3 quality.py $W/out/quality.json $W/A/$R/models/${D}_model.safetensors ${DEV:-cuda} > $W/out/quality.txt 2>&1)
cp -r $W/A/results/. $W/B/results/; C="$CONF $W/fp8.yaml" smk $W/B 0 3 $(scores classifier "$SEEDS" full); evals $W/B | tee $W/out/fp8.txt
say benchmark; C="$W/bench.yaml" timeout -k 5 190 bash -c 'P=$PYTHONPATH; . $L/env.sh; C=$W/bench.yaml X="${XC:-}" smk $W/A 0 1 benchmark' > $W/out/benchmark.txt 2>&1; cp $W/A/results/h200-speed/speed/* $W/out/
if evals $W/A | awk '$2 ~ /refined-2-levels/ {sub("x","",$4); exit !($4 > 1.06)}'; then
 smk $W/A 0 1 $(row refined-2-cool/2); smk $W/A 0 3 $(scores classifier "$SEEDS" refined-2-cool/2bit)
fi
touch $W/later
