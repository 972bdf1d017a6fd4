# One GPU: rows that 2026-11-29 did not reach. In $W/A alone; next.yaml stands for lease.yaml, without peers.
. $L/env.sh
CONF="config/frontier.yaml $W/next.yaml"
smk $W/A 0 2 $R/models/${D}_model.safetensors $R/classifiers/$D.safetensors; touch $W/trained
for v in full; do E=""; for s in ${SEEDS:-0 1 2}; do E="$E $R/evaluation/$D/$v/seed$s.classifier.json $R/downstream/$D/$v/seed$s.json"; done; smk $W/A 0 3 $E; done
while [ ! -e $W/measured ]; do sleep 1; done
for v in refined-2-4800/5 refined-2/5 refined-1/1 refined-3/6 refined-half/0.5; do smk $W/A 0 1 $R/quantized_models/$D/${v}bit.json
E=""; for s in ${SEEDS:-0 1 2}; do E="$E $R/evaluation/$D/${v}bit/seed$s.classifier.json $R/downstream/$D/${v}bit/seed$s.json"; done
smk $W/A 0 3 $E; done
touch $W/a.done $W/b.done
