# Lease K, one GPU, no data: GPU suite, one image from packed weights, the benchmark of both networks; k.sh, once, 590 s at most.
cd $ROOT; export W=${W:-/tmp} NG=1 S0=0 DS=fmnist; mkdir -p $W; date +%s > $W/t0; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; mkdir -p .lease/data; bash .lease/prep.sh; mkdir -p $W/out; nvidia-smi -L
(cd / && python3 -m compileall -q -j 0 /tmp/site > /dev/null 2>&1)
P=$W/P; cp -a $W/T $P; (cd $P && patch -p1 -s < $L/fast/packed.patch) && patched=yes
(cd $P; say suite; timeout 200 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 12 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt)
cp $W/out/* $OUT/
cd $L/fast; for turn in 1 2; do for t in T P; do say "one image, $t"; PYTHONPATH=$W/$t/workflow:$L/fast:$PYTHONPATH timeout 80 python3 batch1.py $W/out/batch1.json $t 55 1,1000 2>&1 | tail -n 40 | tee -a $W/out/batch1.txt; done; done
cp $W/out/* $OUT/
sed -i 's/datasets: \[mnist\]/datasets: [mnist, cifar10]/' $W/bench.yaml; for f in fused.py; do cp $P/workflow/flowquant/models/$f $B/workflow/flowquant/models/$f; done
say benchmark; (C=$W/bench.yaml; timeout 270 bash -c '. $L/env.sh; C=$W/bench.yaml; smk $B 1 benchmark') > $W/out/benchmark.txt 2>&1; [ -d $B/results/h200-speed ] && cp $B/results/h200-speed/speed/* $W/out/
cp $W/out/* $OUT/; say done
