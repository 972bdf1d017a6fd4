# The GPU suite, then the benchmark of both networks, alone on the machine.
cd $ROOT; export W=/tmp NG=1 S0=0 DS=fmnist CORES=15; mkdir -p $W; date +%s > $W/t0; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; mkdir -p .lease/data; bash .lease/prep.sh 2>/dev/null; nvidia-smi -L
(cd / && python3 -m compileall -q -j 0 /tmp/site > /dev/null 2>&1)
say suite; (cd $W/T; timeout 200 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $OUT/gpu_tests.txt 2>&1; tail -n 1 $OUT/gpu_tests.txt)
sed -i 's/datasets: \[mnist\]/datasets: [mnist, cifar10]/' $W/bench.yaml
say benchmark; (C=$W/bench.yaml; timeout ${BENCH:-340} bash -c '. $L/env.sh; C=$W/bench.yaml; smk $B 1 benchmark') > $OUT/benchmark.txt 2>&1; tail -n 3 $OUT/benchmark.txt; cp $B/results/h200-speed/speed/*.md $B/results/h200-speed/speed/*.json $OUT/
say done
