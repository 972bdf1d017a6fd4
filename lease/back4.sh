. $L/env.sh; rm -rf $W/pack; mkdir -p $W/pack; cp $W/*.log $W/*.yaml $W/A*/small.yaml $W/pack/ 2>/dev/null
(cd $W; find A? B0 -path '*/results/*' \( -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.log' -o -name '*.csv' -o -name '*.md' \) -not -path '*/published/*' | tar cf - -T - pack out | xz -T16 -2 > $OUT/all.txz)
[ -d $W/shards ] && [ -n "$BRING" ] && cp $W/shards/* $OUT/
[ -d $W/few ] && tar cf - -C $W few | xz -T16 -2 > $OUT/few.txz
ls -la $OUT
