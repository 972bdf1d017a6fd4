# One lease: the frontier run, or a part of it. Arguments: seconds of this call, then Snakemake's own words.
# G (the carried folder) holds site.tar.xz, code/ (Snakefile, workflow, config, profiles, envs, results/published),
# fashion-mnist/. Called again on the same machine it goes on. Targets before --configfile: it swallows them.
. $CARRIED/env.sh; L=$1; shift; t0=$(date +%s)
if [ ! -d /tmp/run ]; then mkdir -p /tmp/data; cp -r $G/fashion-mnist /tmp/data/; tar xJf $G/site.tar.xz -C /tmp; cp -r $G/code /tmp/run; fi
cd /tmp/run; GPUS=$(nvidia-smi -L | wc -l)
if ! pgrep -f "snakemake --cores" > /dev/null; then
  setsid python3 -m snakemake "$@" --cores 60 --scheduler greedy --show-failed-logs --keep-going --rerun-incomplete \
    --resources gpu=$((3 * GPUS)) --config data_root=/tmp/data --configfile config/frontier.yaml > /tmp/log 2>&1 &
fi
while pgrep -f "snakemake --cores" > /dev/null && [ $(($(date +%s) - t0)) -lt $L ]; do sleep 1; done
grep -v "█" /tmp/log | tail -n 30 | cut -c1-300; R=results/frontier
for f in $(find $R/benchmarks -name '*.tsv'); do echo "$f $(sed -n 2p $f | cut -f1)"; done | grep -E "quantize|refine|train|hessians"
cat $R/summary.md $R/comparisons.md
find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' -o -name '*.svg' -o -name '*.csv' -o -name '*.md' | tar cJ -T - -f $OUT/frontier.txz
cp /tmp/log $OUT/log.txt; for v in refined-2 refined-1; do for f in $R/quantized_models/fmnist/$v/*bit.safetensors; do cp $f $OUT/$v.safetensors; done; done; ls -la $OUT
