# Once: code into two folders for each GPU, and one for tests.
. .lease/env.sh
if [ ! -d $W/A0 ]; then
  mkdir -p $W/data $W/out $W/T; [ $W = /tmp ] && mkdir -p /tmp/site && tar xJf .lease/core.tar.xz -C /tmp/site
  cp -r .lease/data/* $W/data/; cp .lease/*.yaml $W/; [ -e $W/reh.yaml.off ] || rm -f $W/reh.yaml
  for g in $(seq 0 $((NG - 1))); do G=$g; . .lease/env.sh; for d in $A $B; do
    mkdir -p $d/results; cp -r Snakefile workflow config profiles envs tests pyproject.toml README.md docs $d/; cp -r results/published $d/results/
    [ -n "$T" ] && echo "training_seeds: [$S]" > $d/training_seed.yaml || echo "{}" > $d/training_seed.yaml
  done; done; G=0; . .lease/env.sh
  cp -r Snakefile workflow config profiles envs tests pyproject.toml README.md .test models $W/T/
fi
