# Call 3: what is left; with two GPUs, both are then measured together (gpus/g.sh).
cd $ROOT; export W=${W:-/tmp}; export L=$W/L; . $L/env.sh; t1=$(date +%s); t0=$(cat $W/t0)
[ -d .lease3/data ] && cp -r .lease3/data/* $W/data/ && touch $W/data3.done
end=$((t1 + 565)); [ $((t0 + ${1:-1680})) -lt $end ] && end=$((t0 + ${1:-1680}))
left() { echo $((end - $(date +%s))); }
done_all() { for g in $(seq 0 $((NG - 1))); do [ -e $W/a$g.done ] || return 1; done; [ -z "${EXTRA:-}" ] || [ -e $W/extra.done ] || return 1; [ -e $W/later ]; }
while ! done_all && [ $(left) -gt 0 ]; do
  # Enough for several GPUs' parts alone, whatever else is unfinished.
  [ $NG -gt 1 ] && [ $(left) -lt ${GPUS_SECONDS:-275} ] && break
  sleep 1
done
if [ $NG -gt 1 ] && [ ${GPUS_SECONDS:-275} -gt 0 ] && [ $(left) -gt 120 ]; then
  pkill -f $L/one.sh; pkill -f snakemake; pkill -f flowquant; sleep 2
  export L G=0; bash $L/gpus/g.sh $(left) $W/out/gpus
fi
bash $L/show.sh | tail -n 80; BACK="refined-2-levels/2 refined-1/1 refined-3/3" bash $L/back.sh
