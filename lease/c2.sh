# Call 2: brings the second extractor; waits.
cd $ROOT; export W=${W:-/tmp}; export L=$W/L; . $L/env.sh; t1=$(date +%s); t0=$(cat $W/t0)
[ -e .lease2/eff.tar ] && [ $W = /tmp ] && tar xf .lease2/eff.tar -C /tmp/site; touch $W/eff.done
while ! { [ -e $W/later ] && [ -e $W/a0.done ]; } && [ $(($(date +%s) - t0)) -lt ${1:-1180} ] && [ $(($(date +%s) - t1)) -lt 580 ]; do sleep 1; done
bash $L/show.sh | tail -n 80; BACK="refined-2-levels/2 refined-1/1" bash $L/back.sh
