# Call 3: what is left.
cd $ROOT; export W=${W:-/tmp}; export L=$W/L; . $L/env.sh; t1=$(date +%s); t0=$(cat $W/t0)
[ -d .lease3/data ] && cp -r .lease3/data/* $W/data/ && touch $W/data3.done
done_all() { for g in $(seq 0 $((NG - 1))); do [ -e $W/a$g.done ] || return 1; done; [ -z "${EXTRA:-}" ] || [ -e $W/extra.done ] || return 1; [ -e $W/later ]; }
while ! done_all && [ $(($(date +%s) - t0)) -lt ${1:-1680} ] && [ $(($(date +%s) - t1)) -lt 570 ]; do sleep 1; done
bash $L/show.sh | tail -n 80; BACK="refined-2-levels/2 refined-2-small/2 refined-1/1" bash $L/back.sh
