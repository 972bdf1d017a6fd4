# Once: code into two folders, one for each GPU, and one for tests: the branch's.
. .lease/env.sh
if [ ! -d $W/A ]; then
  mkdir -p $W/data $W/out $W/T; [ $W = /tmp ] && mkdir -p /tmp/site && tar xJf .lease/core.tar.xz -C /tmp/site
  cp -r .lease/data/* $W/data/; cp .lease/*.yaml $W/; [ -e $W/reh.yaml.off ] || rm -f $W/reh.yaml
  for d in A B; do mkdir -p $W/$d/results; cp -r Snakefile workflow config profiles envs tests pyproject.toml README.md docs $W/$d/; cp -r results/published $W/$d/results/; done
  tar xJf .lease/code.tar.xz -C $W/T; cp -r .test models $W/T/
fi
