. $L/env.sh
cd $W/A; mkdir -p $W/pack; cp $W/*.log $W/pack/; cp $W/*.yaml $W/pack/; [ "$1" = early ] && for d in B; do (cd $W/$d; find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' | grep -v hessians | tar cf - -T - | xz -T8 -2 > $OUT/frontier$d.txz); done
find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' -o -name '*.svg' -o -name '*.csv' -o -name '*.md' -o -name '*.log' | tar cf - -T - | xz -T8 -2 > $OUT/frontierA.txz
tar cJf $OUT/logs.txz -C $W pack out
for d in A B; do for v in ${BACK:-refined-2/5 refined-2-levels/2 refined-1/1 refined-half/0.5}; do f=$W/$d/$R/quantized_models/$D/${v}bit.safetensors; [ -e $f ] && cp -n $f $OUT/$(echo $v | tr / -).st; done; done
cd $OUT; ls -S *.json *.txt 2>/dev/null | tar cf measured.tar -T - 2>/dev/null && rm -f *.json *.txt; ls -la $OUT
