export L=/tmp/L; . $L/env.sh; t0=$(cat /tmp/t0)
while [ ! -e /tmp/a.done -o ! -e /tmp/b.done ] && [ $(($(date +%s) - t0)) -lt ${1:-850} ]; do sleep 1; done
bash $L/show.sh | tail -n 30
pkill -9 -f "[/]tmp/L/[ab]\.sh"; for p in $(pgrep python3) $(pgrep -x bash); do case "$(readlink /proc/$p/cwd)" in /tmp/A|/tmp/B) kill -9 $p;; esac; done; sleep 1
setsid bash $L/final.sh > /tmp/final.log 2>&1 &
while [ ! -e /tmp/final.done ] && [ $(($(date +%s) - t0)) -lt ${2:-930} ]; do sleep 1; done
tr '\r' '\n' < /tmp/final.log | grep -vE "█|^$|jobid|^\[" | tail -n 25 | cut -c1-300; cat $W/A/$R/summary.md $W/A/$R/comparisons.md | cut -c1-220; bash $L/back.sh
