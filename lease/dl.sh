PY=.venv/bin/python
plats=""; for p in manylinux_2_17 manylinux_2_24 manylinux_2_26 manylinux_2_27 manylinux_2_28 manylinux_2_31 manylinux_2_34 manylinux_2_35 manylinux2014 manylinux1 manylinux2010; do plats="$plats --platform ${p}_x86_64"; done
dest=$1; shift
for p in "$@"; do
 $PY -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp $plats -d $dest "$p" 2>/dev/null || $PY -m pip wheel -q --no-deps -w $dest "$p" 2>/dev/null || echo FAILED $p
done
