export W=${W:-/tmp} D=${D:-fmnist} R=results/frontier SEEDS="${SEEDS:-0 1 2}"
[ $W = /tmp ] && export PYTHONPATH=/tmp/site PATH=/tmp/site/bin:$PATH HOME=/root
export PYTHONUNBUFFERED=1 NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1 OMP_NUM_THREADS=2
unset PYTHONDONTWRITEBYTECODE
CONF="config/frontier.yaml $W/lease.yaml"
[ -f $W/reh.yaml ] && X=$W/reh.yaml
say() { echo "[$(date +%H:%M:%S) $(($(date +%s) - $(cat $W/t0)))] $*"; }
# smk FOLDER GPU JOBS targets… : Snakemake in that folder, on that GPU alone
smk() { (cd $1 || exit; export CUDA_VISIBLE_DEVICES=$2; J=$3; shift 3; say "snakemake $*" | cut -c1-220
  python3 -m snakemake "$@" --cores ${CORES:-60} --scheduler greedy --show-failed-logs --keep-going --rerun-incomplete --notemp --quiet rules host \
   --resources gpu=$J ${SET:-} --config data_root=$W/data --configfile ${C:-$CONF} ${X:-}; say "ended $?"); }
row() { echo $R/quantized_models/$D/$1bit.json; }
# scores EXTRACTOR SEEDS variants…
scores() { local x=$1 seeds=$2 v s; shift 2; for s in $seeds; do for v in "$@"; do echo $R/evaluation/$D/$v/seed$s.$x.json; [ $x = classifier ] && echo $R/downstream/$D/$v/seed$s.json; done; done; }
seconds() { for f in $(find $1/$R/benchmarks -name '*.tsv' | grep -E "${2:-quantize|refine|train|hessians|classifier}" | sort); do echo "${f#$1/$R/benchmarks/} $(sed -n 2p $f | cut -f1)"; done; }
models() { python3 - $(ls $1/$R/quantized_models/$D/*/*bit.json 2>/dev/null) <<'PY'
import json, sys
for f in sys.argv[1:]:
    d = json.load(open(f)); v = d.get("velocity_error") or {}
    print(d.get("variant"), "eff %.3f" % d["effective_bits"], "bytes", d.get("bytes"), "seconds %.1f" % (d.get("seconds") or 0), {k: "%.4f%%" % (100 * e) for k, e in v.items()})
PY
}
evals() { python3 - $1/$R/evaluation/$D ${2:-classifier} <<'PY'
import json, sys, glob, os, statistics as s
by = {}
for pattern in ("/*/*/seed*.", "/real/seed*.", "/full/seed*."):
    for f in glob.glob(sys.argv[1] + pattern + sys.argv[2] + ".json"):
        by.setdefault(os.path.dirname(f)[len(sys.argv[1]) + 1:], []).append(json.load(open(f))["fid"])
full = s.mean(by["full"]) if "full" in by else float("nan")
for k, v in sorted(by.items(), key=lambda i: s.mean(i[1])): print(sys.argv[2], k, "%.3f" % s.mean(v), "x%.3f" % (s.mean(v) / full), len(v))
PY
}
