cd $ROOT; t0=$(date +%s); echo $t0 > /tmp/t0; bash .lease/prep.sh; rm -rf /tmp/L; cp -r .lease /tmp/L; export L=/tmp/L; cp -r .test /tmp/T/; nvidia-smi -L
setsid bash /tmp/L/n.sh > /tmp/a.log 2>&1 &
(cd /tmp/T; export PYTHONPATH=/tmp/site CUDA_VISIBLE_DEVICES=0 OMP_NUM_THREADS=2
timeout 120 python3 -m pytest -m gpu tests/gpu --numprocesses 8 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $OUT/gpu_tests.txt 2>&1
export PYTHONPATH=/tmp/T/workflow:/tmp/T/tests:/tmp/L/fast:/tmp/site PYTHONUNBUFFERED=1
while [ ! -e /tmp/trained ]; do sleep 1; done
timeout 60 python3 /tmp/L/fast/next.py $OUT/next.json > $OUT/next.txt 2>&1
timeout 110 python3 /tmp/L/fast/quality.py $OUT/quality.json /tmp/data/fashion-mnist > $OUT/quality.txt 2>&1)
touch /tmp/measured
while [ $(($(date +%s) - t0)) -lt ${1:-570} ]; do sleep 1; done
tail -n 12 $OUT/gpu_tests.txt | cut -c1-200; cat $OUT/next.txt | tail -n 60; tail -n 14 $OUT/quality.txt; bash $L/show.sh
