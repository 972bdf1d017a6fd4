# One GPU, one thing after another, in one folder. next.yaml stands as lease.yaml.
. $L/env.sh; mkdir -p $W/out; export CUDA_VISIBLE_DEVICES=0
(cd $W/T; timeout 110 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
P=$PYTHONPATH; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$P
(cd $L/fast; say profile; timeout 90 python3 profile_steps.py $W/out/profile.json mnist > $W/out/profile.txt 2>&1
 say without workspaces; CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0 timeout 60 python3 profile_steps.py $W/out/profile_nows.json mnist > $W/out/profile_nows.txt 2>&1)
export PYTHONPATH=$P; touch $W/measured
# The column: train and classifier side by side, four jobs at once.
t=$(date +%s); C="$W/column.yaml" smk $W/A 0 4; echo "column $(($(date +%s) - t)) s" | tee $W/out/column.txt; touch $W/trained
smk $W/A 0 1 $(row priced-4/7)
smk $W/A 0 1 $(row refined-2-levels/2)
smk $W/A 0 6 $(scores classifier "$SEEDS" full refined-2-levels/2bit); touch $W/b.done
smk $W/A 0 1 $(row refined-3/3)
smk $W/A 0 1 $(row refined-2-4800/5)
smk $W/A 0 9 $(scores classifier "$SEEDS" refined-3/3bit refined-2-4800/5bit)
touch $W/a.done
(cd $L/fast; export PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$P; say quality; timeout 100 python3 quality.py $W/out/quality.json $W/data/fashion-mnist > $W/out/quality.txt 2>&1)
say benchmark; timeout 200 bash -c '. $L/env.sh; C="config/config.yaml" smk $W/A 0 1 benchmark' > $W/out/benchmark.txt 2>&1
touch $W/later
