# On GPU 1 while GPU 0 trains: what needs no model of ours, by the branch's code.
. $L/env.sh; mkdir -p $W/out; export CUDA_VISIBLE_DEVICES=${G:-1}
(cd $W/T; timeout 130 python3 -m pytest -m gpu tests/gpu --numprocesses 6 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
while [ ! -e $W/classified ]; do sleep 1; done
for b in sampling training; do (cd $L/$b; say $b; PYTHONPATH=$W/T/workflow:$L/$b:$W/T/tests:$PYTHONPATH timeout 75 python3 whole.py $W/out/$b-whole.json > $W/out/$b-whole.txt 2>&1); done
touch $W/measured; say measured
