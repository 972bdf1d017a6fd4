. $L/env.sh
mkdir -p $W/pack; cp $W/*.log $W/*.yaml $W/A*/small.yaml $W/pack/
for g in $(seq 0 $((NG - 1))); do G=$g; . $L/env.sh
 (cd $A; find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' -o -name '*.svg' -o -name '*.csv' -o -name '*.md' -o -name '*.log' | tar cf - -T - | xz -T8 -2 > $OUT/frontierA$g.txz)
 for v in $BACK; do f=$A/$R/quantized_models/$D$T/${v}bit.safetensors; [ -e $f ] && [ $(ls $OUT | wc -l) -lt 6 ] && cp $f $OUT/$D$T-$(echo $v | tr / -).st; done
done
(cd $B; find $R/scores -name '*.json' | tar cf - -T - | xz -T8 -2 > $OUT/frontierB.txz)
tar cJf $OUT/logs.txz -C $W pack out
ls -la $OUT
