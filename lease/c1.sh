# Call 1: everything begins, on each of NG GPUs; once all have trained, several are measured together for GPUS_SECONDS.
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; t0=$(cat $W/t0); rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; bash .lease/prep.sh; nvidia-smi -L
left() { echo $((t0 + ${LIMIT:-585} - $(date +%s))); }; LIMIT=${1:-585}
for g in $(seq 0 $((NG - 1))); do G=$g setsid bash $L/one.sh > $W/a$g.log 2>&1 & done
all_trained() { for g in $(seq 0 $((NG - 1))); do [ -e $W/A$g/trained ] || return 1; done; }
together=${GPUS_SECONDS:-275}; [ $NG -gt 1 ] || together=0
if [ $together -gt 0 ]; then
  while ! all_trained && [ $(left) -gt 150 ]; do sleep .2; done
  if all_trained; then l=$(left); [ $l -gt $together ] && l=$together; (export G=0; bash $L/gpus/g.sh $l $W/out/gpus); cp $W/out/gpus.txz $OUT/; fi
fi
touch $W/go
while [ $(left) -gt 0 ]; do sleep 1; done
bash $L/show.sh | tail -n 60; cp $W/out/*.txt $OUT/
