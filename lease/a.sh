. $L/env.sh
smk $W/A 0 1 $R/models/${D}_model.safetensors
while [ ! -e $W/classified ]; do sleep 1; done
cp -rn $W/B/results/. $W/A/results/
touch $W/trained
cat > $W/a.yaml <<'Y'
methods: {refined-2-1000: null, refined-2-5000: null, refined-2: null, refined-vectors: null}
Y
C="$CONF $W/a.yaml" SET="--set-resources refine:gpu=4 quantize_peer:device=cpu quantize_peer:gpu=0 --prioritize $R/quantized_models/$D/refined-3/6bit.json $R/quantized_models/$D/refined-half/0.5bit.json" smk $W/A 0 7
touch $W/a.done
