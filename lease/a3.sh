. $L/env.sh
cp -rn $W/B/results/. $W/A/results/
smk $W/A 0 1 $R/quantized_models/$D/refined-2-1000/5bit.json
smk $W/A 0 1 $R/quantized_models/$D/refined-2-5000/5bit.json
C="$CONF $W/a.yaml" SET="--set-resources refine:gpu=3 quantize_peer:device=cpu quantize_peer:gpu=0" smk $W/A 0 6
touch $W/a3.done
