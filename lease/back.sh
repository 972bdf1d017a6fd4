. $L/env.sh
cd $W/A; cp -r $W/*.log $R/ ; cp $W/*.yaml $R/
find $R -name '*.json' -o -name '*.jsonl' -o -name '*.tsv' -o -name '*.png' -o -name '*.svg' -o -name '*.csv' -o -name '*.md' -o -name '*.log' -o -name '*.yaml' | tar cf - -T - | xz -T8 -2 > $OUT/frontier.txz
find results/.records -type f | tar cf - -T - | xz -T8 -2 > $OUT/records.txz
for v in ${BACK:-refined-2/5 refined-2-1000/5 refined-vectors/0.875 refined-half/0.5}; do cp $R/quantized_models/$D/${v}bit.safetensors $OUT/$(echo $v | tr / -).st; done
ls -la $OUT
