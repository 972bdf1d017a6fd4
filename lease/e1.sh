# Call 1 of lease F: code and Fashion-MNIST. LANES="0:first 2:again": what begins, and in which lane's folders; THEN: after the second.
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; bash .lease/prep.sh; nvidia-smi -L
# As pip does where it installs; and what a machine has in memory that has run anything before.
[ $W = /tmp ] && { (cd / && python3 -m compileall -q -j 0 /tmp/site; for d in $W/A? $W/B?; do python3 -m compileall -q -j 0 $d/workflow; done) > /dev/null 2>&1; python3 -c 'import snakemake.cli, torch, torchvision'; }
n=0; for x in $LANES; do n=$((n + 1)); THEN=$([ $n = $(echo $LANES | wc -w) ] && echo $THEN) G=${x%%:*} setsid bash $L/next.sh ${x#*:} > $W/lane${x%%:*}.log 2>&1 & done
sleep 4; tail -n 3 $W/lane*.log
