# Call 1: everything begins, on each of NG GPUs.
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; t0=$(cat $W/t0); rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; bash .lease/prep.sh; nvidia-smi -L
for g in $(seq 0 $((NG - 1))); do G=$g setsid bash $L/one.sh > $W/a$g.log 2>&1 & done
while [ $(($(date +%s) - t0)) -lt ${1:-585} ]; do sleep 1; done
bash $L/show.sh | tail -n 60; cp -r $W/out/. $OUT/
