# tab.sh FOLDER DATASET(T) OUT PEERS... : tables of one run's JSON files
set -e; cd "$ROOT"; P=".venv/bin/python -m flowquant"; export PYTHONPATH=workflow
A=$1; D=$2; O=$3; shift 3; S=$(find $A/results/frontier/scores/$D $A/results/frontier/scores/${D%-seed*}/real -name 'seed*.json' 2>/dev/null | grep -v 16bit | sort -u)
M="$A/results/frontier/models/${D}_model.json $(find $A/results/frontier/quantized_models/$D -name '*bit.json' | grep -v 16bit | sort)"
M=$(for m in $M; do v=$(echo $m | sed 's#.*/\([^/]*\)/\([^/]*bit\).json#\1/\2#'); case $m in *_model.json) echo $m;; *) [ -e $A/results/frontier/scores/$D/$v/seed0.json ] && echo $m;; esac; done)
mkdir -p $O/plots
$P collect --scores $S --models $M --extractors classifier efficientnet-lite0 --classifiers $A/results/frontier/classifiers/${D%-seed*}.json --references $REF --results $O/results.csv --evaluation-results /tmp/ev.json --downstream-results /tmp/ds.json --summary $O/summary.csv --table $O/summary.md
$P compare --scores $S --extractors classifier efficientnet-lite0 --results $O/results.csv --output $O/comparisons.csv --table $O/comparisons.md --papers uniform ot ${1:+--peers "$@"}
$P plot_metrics --summary $O/summary.csv --dataset ${D%-seed*} --metric fid --published results/published/samples_evaluation_results.json --over-bytes $O/plots/fid.png --over-bits $O/plots/fid_bits.png --data /tmp/fid.csv --dpi 110
