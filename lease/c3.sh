# Call 3: what is left.
cd $ROOT; export W=${W:-/tmp}; export L=$W/L; . $L/env.sh; t1=$(date +%s); t0=$(cat $W/t0)
while [ ! -e $W/later ] && [ $(($(date +%s) - t0)) -lt ${1:-1680} ] && [ $(($(date +%s) - t1)) -lt 570 ]; do sleep 1; done
bash $L/show.sh | tail -n 70; BACK="refined-2-levels/2 refined-1/1 refined-3/3" bash $L/back.sh
