# On CPUs, with stand-ins for two GPUs: bash rehearse.sh SECONDS
export W=/tmp/reh16 D=digits L=/tmp/m/lease TINY=1 SLOW=${SLOW:-6} CORES=${CORES:-8} BITS="${BITS:-2}" PER_CLASS=${PER_CLASS:-60} SAMPLE_STEPS=4 GPUS=2 COLUMN=/tmp/h/gpus-lease/scaling-digits.yaml
export PATH=$W/bin:$PATH PYTHONPATH=$W/standin TMPDIR=$W/tmp; mkdir -p $TMPDIR
bash /tmp/h/gpus-lease/g.sh ${1:-1400} $W/out
