# One image from packed weights, with priority: widths, tiles, groups; 230 s.
cd $ROOT; export W=/tmp PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4; unset PYTHONDONTWRITEBYTECODE; t0=$(date +%s)
say() { echo "[$(($(date +%s) - t0))] $*"; }
L=$ROOT/.lease; nvidia-smi -L
[ -d /tmp/site ] || { mkdir -p /tmp/site; tar xJf $L/core.tar.xz -C /tmp/site; }
export PYTHONPATH=/tmp/site:$L/one:$ROOT/workflow; cd $L/one
say trace; timeout 40 python3 exp.py $OUT/t.json 30 trace > $OUT/trace.txt 2>&1; tail -n 1 $OUT/trace.txt
say ways; timeout 190 python3 exp.py $OUT/ways.json 170 ways > $OUT/ways.txt 2>&1; tail -n 3 $OUT/ways.txt
rm -f $OUT/*.trace.json
cd $ROOT; say suite; PYTHONPATH=/tmp/site timeout 150 python3 -m pytest -m gpu tests/gpu --numprocesses 4 -p no:cacheprovider -p no:benchmark --durations 8 --tb short > $OUT/gpu_tests.txt 2>&1; tail -n 1 $OUT/gpu_tests.txt
say done
