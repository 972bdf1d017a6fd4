. $L/env.sh
smk $W/A 0 1 $R/models/${D}_model.safetensors
touch $W/trained
while [ ! -e $W/classified ]; do sleep 1; done
cp -rn $W/B/$R/classifiers $W/B/$R/data $W/A/$R/ 2>/dev/null; cp -rn $W/B/results/data $W/A/results/ 2>/dev/null; cp -rn $W/B/results/.records $W/A/results/
smk $W/A 0 1 $(row refined-2-levels/2)
smk $W/A 0 6 $(scores classifier "$SEEDS" full refined-2-levels/2bit)
smk $W/A 0 1 $(row refined-1/1)
smk $W/A 0 1 $(row refined-3/6)
smk $W/A 0 6 $(scores classifier "$SEEDS" refined-1/1bit refined-3/6bit)
touch $W/a.done
