. $L/env.sh
smk $W/B 1 1 $R/classifiers/$D.safetensors; touch $W/classified
while [ ! -e $W/trained -o ! -e $W/measured ]; do sleep 1; done
cp -rn $W/A/$R/models $W/B/$R/; cp -rn $W/A/results/.records $W/B/results/; cp -rn $W/A/results/data $W/B/results/ 2>/dev/null
for v in priced-2/5 priced-3/6 priced-4/7; do smk $W/B 1 1 $(row $v); done
for v in refined-2-4800/5 refined-2/5; do smk $W/B 1 1 $(row $v); done
smk $W/B 1 5 $(scores classifier "$SEEDS" priced-2/5bit priced-3/6bit priced-4/7bit refined-2-4800/5bit refined-2/5bit)
smk $W/B 1 1 $(row refined-half/0.5)
smk $W/B 1 4 $(scores classifier "$SEEDS" refined-half/0.5bit)
if python3 $L/reached.py $W $D; then timeout ${LATER:-290} bash $L/later.sh > $W/later.log 2>&1
else smk $W/B 1 1 $(row refined-2-vectors/2)
smk $W/B 1 4 $(scores classifier "$SEEDS" refined-2-vectors/2bit); fi
touch $W/b.done
