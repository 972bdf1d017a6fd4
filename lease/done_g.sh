# Lease G: seed 0 trained again; FP8 whose scales turn, beside FP8 whose scales stay: seconds, PSNR, FID at 500 and 100 steps; GPU suite.
export ROOT=$PWD W=${W:-/tmp} L=$PWD/.lease5 NG=1 S0=0 DS=${DS:-fmnist} G=0 CORES=${CORES:-30}; mkdir -p $W/data $W/out $W/T $W/more
date +%s > $W/t0; . $L/env.sh; unset CUDA_VISIBLE_DEVICES
[ $W = /tmp ] && { mkdir -p /tmp/site; tar xJf $L/core.tar.xz -C /tmp/site & }
cp -r $L/data/* $W/data/; cp $L/seed.yaml $L/next.yaml $L/fp8.yaml $W/
tar xf $L/eff.tar -C $W/more & for d in A0 B0 B1 T; do mkdir -p $W/$d/results; cp -r Snakefile workflow config profiles envs tests pyproject.toml README.md docs .test $W/$d/; cp -r results/published $W/$d/results/; echo "{}" > $W/$d/training_seed.yaml; done; wait
echo "presets: {fmnist: {sampling: {steps: ${LONG:-500}}}, digits: {sampling: {steps: ${LONG:-500}}}}" > $W/long.yaml
echo "evaluation: {extractors: [classifier, efficientnet-lite0]}" > $W/both.yaml
[ $W = /tmp ] && (cd / && nohup python3 -m compileall -q -j 8 /tmp/site > /dev/null 2>&1 &)
[ -z "$NOSUITE" ] && (sleep 25; cd $W/T; CUDA_VISIBLE_DEVICES=1 PYTHONPATH=$W/T/workflow:$W/T/tests:$PYTHONPATH timeout 170 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 5 --tb short > $W/out/gpu_tests.txt 2>&1; tail -n 1 $W/out/gpu_tests.txt) &
smk $A 2 $R/models/$D${T}_model.safetensors $R/classifiers/$D.safetensors; export PYTHONPATH=$W/more:$PYTHONPATH
M=$A/$R/models/$D${T}_model.safetensors; for b in B0 B1; do cp -a $A/results/. $W/$b/results/; cp -a $A/.snakemake $W/$b/ 2>/dev/null; done
set_() { n=$1; b=$2; shift 2; (rm -rf $W/$b/$R/sampling $W/$b/$R/scores/$D; TRIG="--rerun-triggers mtime" C="$CONF $*" smk $W/$b 3 $(scores full); evals $W/$b | grep full | sed "s/^/$n /" | tee $W/out/$n.txt; mkdir -p $W/out/$n; cp -r $W/$b/$R/scores/$D/full $W/out/$n/; (cd $W; tar cf - --exclude='*.pt' out | xz -1 > $OUT/out.txz.new && mv $OUT/out.txz.new $OUT/out.txz)); }
cd $L
(export CUDA_VISIBLE_DEVICES=1; PYTHONPATH=$W/T/workflow:$PYTHONPATH python3 quality2.py exact $W/out/exact.pt $M > $W/out/exact.txt 2>&1; cd $ROOT; set_ turning-long B1 $W/fp8.yaml $W/long.yaml; set_ bfloat16-long B1 $W/long.yaml) &
a=$!
export CUDA_VISIBLE_DEVICES=0; PYTHONPATH=$W/T/workflow:$PYTHONPATH python3 quality2.py times $W/out/times.json $M > $W/out/times.txt 2>&1; cat $W/out/times.txt
mkdir -p $OUT; (cd $W; tar cf - --exclude='*.pt' out | xz -1 > $OUT/out.txz)
set_ turning B0 $W/fp8.yaml
printf '\n\nTURNS = 0.0\n' >> $W/B0/workflow/flowquant/sampling/fp8.py; set_ static-long B0 $W/fp8.yaml $W/long.yaml; set_ static B0 $W/fp8.yaml
wait $a; tail -n 3 $W/out/*.txt
