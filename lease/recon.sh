. $CARRIED/env.sh; L=$1; t0=$(date +%s)
mkdir -p /tmp/data; cp -r $G/fashion-mnist /tmp/data/; tar xJf $G/site.tar.xz -C /tmp; cp -r $G/code /tmp/run; cd /tmp/run
setsid python3 -m snakemake --cores 60 --scheduler greedy --show-failed-logs --keep-going --resources gpu=8 --configfile $G/recon.yaml > /tmp/log 2>&1 &
while kill -0 $! 2>/dev/null && [ $(($(date +%s) - t0)) -lt $L ]; do sleep 1; done
grep -v "█" /tmp/log | tail -n 40 | cut -c1-300
R=results/recon; cat $R/summary.md; grep -H '"fid"' -r $R/evaluation; for f in $(find $R/benchmarks -name '*.tsv'); do echo "$f $(sed -n 2p $f | cut -f1)"; done
for f in $R/quantized_models/fmnist/*/*bit.json; do python3 -c "
import json,sys; d=json.load(open('$f')); print(d['variant'],d['effective_bits'],d['bytes'],d.get('seconds'),d.get('velocity_error'))"; done
find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' -o -name '*.csv' | tar cJ -T - -f $OUT/recon.txz; cp /tmp/log $OUT/log.txt; cp $R/quantized_models/fmnist/cs-60/2bit.safetensors $OUT/cs60_2bit.st;  cp $R/quantized_models/fmnist/cs-60/1bit.safetensors $OUT/cs60_1bit.st; ls -la $OUT
