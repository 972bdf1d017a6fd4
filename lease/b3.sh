. $L/env.sh
(cd $W/A; tar cf - $R/models $R/hessians $R/data results/data results/.records 2>/dev/null) | (cd $W/B; tar xkf - 2>/dev/null)
E=""; for v in 1 0.5; do smk $W/B 1 1 $R/quantized_models/$D/refined-vectors/${v}bit.json
for s in 0 1 2; do E="$E $R/evaluation/$D/refined-vectors/${v}bit/seed$s.classifier.json $R/downstream/$D/refined-vectors/${v}bit/seed$s.json"; done; done
smk $W/B 1 3 $E
touch $W/b3.done
