# One image from packed weights: ways, before (T) and after (P); 230 s.
cd $ROOT; export W=/tmp PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4; unset PYTHONDONTWRITEBYTECODE; t0=$(date +%s)
say() { echo "[$(($(date +%s) - t0))] $*"; }
L=$ROOT/.lease; nvidia-smi -L
[ -d /tmp/site ] || { mkdir -p /tmp/site; tar xJf $L/core.tar.xz -C /tmp/site; }
rm -rf /tmp/T /tmp/P; mkdir -p /tmp/T /tmp/P; tar xJf $L/T.tar.xz -C /tmp/T; cp -r workflow tests pyproject.toml config .test models envs Snakefile profiles README.md docs /tmp/P/
say unpacked
export PYTHONPATH=/tmp/site:$L/one
at() { t=$1; shift; (cd $L/one && PYTHONPATH=/tmp/$t/workflow:$PYTHONPATH timeout ${LIM:-100} "$@"); }
say trace P; LIM=40 at P python3 exp.py $OUT/t.json 30 trace > $OUT/trace_P.txt 2>&1; tail -n 2 $OUT/trace_P.txt
say ways P; LIM=110 at P python3 exp.py $OUT/ways_P.json 95 ways > $OUT/ways_P.txt 2>&1; tail -n 3 $OUT/ways_P.txt
say ways T; ONLY="base,apart" LIM=60 at T python3 exp.py $OUT/ways_T.json 35 ways > $OUT/ways_T.txt 2>&1; tail -n 3 $OUT/ways_T.txt
say trace T; LIM=40 at T python3 exp.py $OUT/t2.json 30 trace > $OUT/trace_T.txt 2>&1; tail -n 2 $OUT/trace_T.txt
say done; rm -f $OUT/*.trace.json
