# Prepares lease E in a checkout's root: bash make_next.sh ROOT
here=$(cd "$(dirname "$0")" && pwd); bash $here/make.sh $1 fashion-mnist; cd $1
[ -e $here/peers.tar.xz ] || { w=$(mktemp -d); bash $here/dl.sh $w hqq==0.2.8.post1 optimum-quanto==0.2.7 sdnq==0.2.8 torchao==0.18.0 termcolor diffusers==0.42.1 importlib_metadata; mkdir $w/x; for f in $w/*.whl; do python3 -m zipfile -e $f $w/x; done; find $w/x -name '*.so' -exec strip -g {} +; tar c -C $w/x . | xz -6 > $here/peers.tar.xz; }
cp $here/peers.tar.xz .lease2/; du -sh --apparent-size .lease .lease2
