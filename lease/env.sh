export W=${W:-/tmp} G=${G:-0} NG=${NG:-1}
# DS: a data set for each GPU, or one for all.
ds=(${DS:-fmnist}); export DS D=${ds[$G]:-${ds[0]}}
# Of GPU G: training seed S0 + G, in folders A$G and B$G.
export S=$((${S0:-1} + G)); case $D in fmnist|digits) T=-seed$S;; *) T=;; esac; [ $S = 0 ] && T=; export T A=$W/A$G B=$W/B$G SEEDS="${ALL_SEEDS:-0 1 2}" R=results/frontier
[ $D = cifar10_jpeg ] && SEEDS=0
[ $W = /tmp ] && export PYTHONPATH=/tmp/site PATH=/tmp/site/bin:$PATH HOME=/root
export PYTHONUNBUFFERED=1 NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1 OMP_NUM_THREADS=2 
# Of a lane: CARDS="0 1 1 1"; without, its own.
cards=(${CARDS:-}); export CARDS CUDA_VISIBLE_DEVICES=${cards[$G]:-$G}
unset PYTHONDONTWRITEBYTECODE
CONF="config/frontier.yaml $W/seed.yaml $A/training_seed.yaml"; [ "$D" = mnist ] && CONF="$CONF $W/mnist.yaml"; [ "$D" = cifar10_jpeg ] && CONF="$CONF $W/cifar.yaml"
[ -f $W/reh.yaml ] && X=$W/reh.yaml
say() { echo "[$(date +%H:%M:%S) $(($(date +%s) - $(cat $W/t0)))] $*"; }
# smk FOLDER JOBS targets… : Snakemake in that folder
smk() { (cd $1 || exit; J=$2; shift 2; say "snakemake $*" | cut -c1-220
  python3 -m snakemake "$@" --cores ${CORES:-60} --scheduler greedy --show-failed-logs --keep-going --rerun-incomplete --notemp --quiet rules host \
   --resources gpu=$J ${TRIG:-} --config data_root=$W/data --configfile ${C:-$CONF} ${X:-}; say "ended $?"); }
row() { for v in "$@"; do echo $R/quantized_models/$D$T/${v}bit.json; done; }
samples() { for s in $SEEDS; do for v in "$@"; do echo $R/sampling/$D$T/$v/seed$s.safetensors; done; done; }
scores() { for s in $SEEDS; do for v in "$@"; do echo $R/scores/$D$T/$v/seed$s.json; done; done; }
seconds() { for f in $(find $1/$R/benchmarks -name '*.tsv' | grep -E "${2:-quantize|refine|train|hessians|classifier}" | sort); do echo "${f#$1/$R/benchmarks/} $(sed -n 2p $f | cut -f1)"; done; }
models() { python3 - $(find $1/$R/quantized_models/$D$T -name '*bit.json' 2>/dev/null) <<'PY'
import json, sys
for f in sys.argv[1:]:
    d = json.load(open(f)); v = d.get("velocity_error") or {}
    print(d.get("variant"), "eff %.3f" % d["effective_bits"], "bytes", d.get("bytes"), "seconds %.1f" % (d.get("seconds") or 0), {k: "%.4f%%" % (100 * e) for k, e in v.items()})
PY
}
evals() { python3 - $1/$R/scores/$D$T <<'PY'
import json, sys, glob, os, statistics as s
root, by = sys.argv[1], {}
for f in glob.glob(root + "/**/seed*.json", recursive=True):
    for x, e in json.load(open(f)).get("evaluation", {}).items(): by.setdefault(x, {}).setdefault(os.path.dirname(f)[len(root) + 1:], []).append(e["fid"])
for x, of in by.items():
    full = s.mean(of["full"]) if "full" in of else float("nan")
    for k, v in sorted(of.items(), key=lambda i: s.mean(i[1])): print(x, k, "%.3f" % s.mean(v), "x%.3f" % (s.mean(v) / full), len(v))
PY
}
