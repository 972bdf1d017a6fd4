# Once: code into two folders, one for each GPU.
. .lease/env.sh
if [ ! -d $W/A ]; then
  mkdir -p $W/data; [ $W = /tmp ] && mkdir -p /tmp/site && tar xJf .lease/core.tar.xz -C /tmp/site && cp -r .lease/data/fashion-mnist $W/data/
  cp .lease/*.yaml .lease/first.txt $W/
  for d in A B T; do mkdir -p $W/$d/results; cp -r Snakefile workflow config profiles envs tests pyproject.toml README.md docs $W/$d/; cp -r results/published $W/$d/results/; done
fi
