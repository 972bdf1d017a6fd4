# Call 1: everything begins.
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; t0=$(cat $W/t0); bash .lease/prep.sh; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; nvidia-smi -L
setsid bash $L/one.sh > $W/a.log 2>&1 &
while [ $(($(date +%s) - t0)) -lt ${1:-585} ]; do sleep 1; done
bash $L/show.sh | tail -n 40; cp -r $W/out/. $OUT/
