. $L/env.sh
rm -f $W/A/.snakemake/locks/* $W/B/.snakemake/locks/*
cp -rn $W/B/results/. $W/A/results/
python3 $L/drop.py $W/A/$R $D $(echo $SEEDS | tr ' ' ,) $W/drop.yaml > $W/rows
C="$CONF" X="${X:-} $W/drop.yaml" SET="--nolock" smk $W/A 0 12
touch $W/final.done
