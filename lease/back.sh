. $L/env.sh
cd $W/A; mkdir -p $W/pack; cp $W/*.log $W/*.yaml $W/pack/
find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' -o -name '*.svg' -o -name '*.csv' -o -name '*.md' -o -name '*.log' | tar cf - -T - | xz -T8 -2 > $OUT/frontierA.txz
(cd $W/B; find $R/scores -name '*.json' | tar cf - -T - | xz -T8 -2 > $OUT/frontierB.txz)
tar cJf $OUT/logs.txz -C $W pack out
for v in $BACK; do f=$R/quantized_models/$D$T/${v}bit.safetensors; [ -e $f ] && cp $f $OUT/$(echo $v | tr / -).st; done
ls -la $OUT
