# Call 1: code, MNIST, CIFAR-10. GPU 2 and 3 begin; the suite.
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; bash .lease/prep.sh; nvidia-smi -L
for x in "suite 0" "mnist 2" "cifar 3" "coordinate 0"; do set -- $x; G=$2 setsid bash $L/four.sh $1 > $W/$1$2.log 2>&1 & done
sleep 4; tail -n 3 $W/*.log
