# Call 2: waits; EfficientNet's package comes with it.
export W=${W:-/tmp}; export L=$W/L; . $L/env.sh; t0=$(cat $W/t0); 
while [ ! -e $W/a.done -o ! -e $W/b.done ] && [ $(($(date +%s) - t0)) -lt ${1:-1180} ]; do sleep 1; done
bash $L/show.sh | tail -n 60; cp -r $W/out/. $OUT/; BACK="refined-2/5 refined-1/1" bash $L/back.sh early
