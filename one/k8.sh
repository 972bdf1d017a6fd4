cd $ROOT; export W=/tmp NG=1 S0=0 DS=fmnist CORES=15; mkdir -p $W; date +%s > $W/t0; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; mkdir -p .lease/data; bash .lease/prep.sh 2>/dev/null; nvidia-smi -L
(cd / && python3 -m compileall -q -j 0 /tmp/site > /dev/null 2>&1)
say seconds; (export CUBLAS_WORKSPACE_CONFIG=:0:0 CUBLASLT_WORKSPACE_SIZE=0 PYTHONPATH=/tmp/site:$L/one:$W/T/workflow; cd $L/one; timeout 60 python3 exp8.py 2>&1 | tee $OUT/seconds.txt)
nvidia-smi --query-gpu=clocks.sm,power.draw,power.limit,temperature.gpu,clocks_throttle_reasons.active --format=csv
say benchmark; (C=$W/bench.yaml; timeout ${BENCH:-150} bash -c '. $L/env.sh; C=$W/bench.yaml; smk $B 1 benchmark') > $OUT/benchmark.txt 2>&1; tail -n 3 $OUT/benchmark.txt; cp $B/results/h200-speed/speed/*.md $B/results/h200-speed/speed/*.json $OUT/
say done
