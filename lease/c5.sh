export L=/tmp/L; . $L/env.sh; t0=$(date +%s)
while [ ! -e /tmp/a3.done -o ! -e /tmp/b3.done ] && [ $(($(date +%s) - t0)) -lt ${1:-200} ]; do sleep 1; done
pkill -INT -f "snakemake" ; sleep 5
setsid bash $L/a5.sh > /tmp/a5.log 2>&1 &
while [ ! -e /tmp/a5.done ] && [ $(($(date +%s) - t0)) -lt ${2:-400} ]; do sleep 1; done
bash $L/show.sh; cat $W/A/$R/summary.md $W/A/$R/comparisons.md | cut -c1-260; bash $L/back.sh
