# One GPU, one thing after another; the classifier beside the tests. next.yaml stands as lease.yaml.
. $L/env.sh
smk $W/A 0 1 $R/classifiers/$D.safetensors; touch $W/classified
while [ ! -e $W/measured ]; do sleep 1; done
smk $W/A 0 1 $R/models/${D}_model.safetensors
smk $W/A 0 1 $(row priced-4/7)
smk $W/A 0 1 $(row refined-2-levels/2)
smk $W/A 0 6 $(scores classifier "$SEEDS" full refined-2-levels/2bit); touch $W/b.done
smk $W/A 0 1 $(row refined-2-4800/5)
smk $W/A 0 1 $(row refined-3/3)
smk $W/A 0 9 $(scores classifier "$SEEDS" refined-3/3bit refined-2-4800/5bit)
touch $W/a.done
