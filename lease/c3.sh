# Call 3: what is left, put together in A.
export W=${W:-/tmp}; export L=$W/L; . $L/env.sh; t0=$(cat $W/t0); now() { echo $(($(date +%s) - t0)); }
while [ ! -e $W/a.done ] && [ $(now) -lt ${1:-1590} ]; do sleep 1; done
pkill -9 -f "[/]L/one\.sh"; for p in $(pgrep python3) $(pgrep -x bash); do case "$(readlink /proc/$p/cwd)" in $W/A) kill -9 $p;; esac; done; sleep 1
setsid bash $L/final.sh > $W/final.log 2>&1 &
while [ ! -e $W/final.done ] && [ $(now) -lt ${2:-1655} ]; do sleep 1; done
bash $L/show.sh | grep -E "eff|classifier |refine/|quantize/|done|ended"
tr '\r' '\n' < $W/final.log | grep -vE "█|^$|jobid" | tail -n 15 | cut -c1-300; cat $W/A/$R/summary.md | cut -c1-260
bash $L/back.sh
