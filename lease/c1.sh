# Call 1: everything begins; the GPU suite and whole evaluations and steps while GPU 0 trains.
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; t0=$(cat $W/t0); bash .lease/prep.sh; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; nvidia-smi -L
if [ "${GPUS:-2}" = 1 ]; then export G=0; setsid bash $L/one.sh > $W/a.log 2>&1 & else setsid bash $L/a.sh > $W/a.log 2>&1 &
setsid bash $L/b.sh > $W/b.log 2>&1 & fi
while [ $(($(date +%s) - t0)) -lt ${1:-585} ]; do sleep 1; done
tail -n 5 $W/measure.log | cut -c1-300; for f in $W/out/*.txt; do echo "== $f"; tail -n 45 $f | cut -c1-200; done; bash $L/show.sh | tail -n 20
mkdir -p $OUT; cp -r $W/out/. $OUT/
