# On a GPU that is free: trials of kernels, the main branch's tests, quality of FP8.
. $L/env.sh; export CUDA_VISIBLE_DEVICES=${G:-1}; P=$PYTHONPATH
(cd $L/fast; say quality; PYTHONPATH=$W/T/workflow:$L/fast:$W/T/tests:$P timeout 100 python3 $L/fast/quality.py $W/out/quality.json $W/data/fashion-mnist > $W/out/quality.txt 2>&1)
for b in sampling training; do (cd $L/$b; say $b; PYTHONPATH=$W/T/workflow:$L/$b:$W/T/tests:$P timeout 65 python3 trials.py $W/out/$b-trials.json > $W/out/$b-trials.txt 2>&1); done
touch $W/later
