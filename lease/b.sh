. $L/env.sh
smk $W/B 1 1 $R/classifiers/$D.safetensors; touch $W/classified
while [ ! -e $W/trained -o ! -e $W/measured ]; do sleep 1; done
cp -rn $W/A/$R/models $W/B/$R/; cp -rn $W/A/results/.records $W/B/results/
for v in refined-2-1000/5 refined-2-5000/5 refined-2/5 refined-vectors/0.875; do smk $W/B 1 1 $R/quantized_models/$D/${v}bit.json
E=""; for s in ${SEEDS:-0 1 2}; do E="$E $R/evaluation/$D/${v}bit/seed$s.classifier.json $R/downstream/$D/${v}bit/seed$s.json"; done
smk $W/B 1 3 $E; done
touch $W/b.done
