# Call 1 of lease E: code and Fashion-MNIST; a lane on each GPU: LANES="seed0 again again mnist".
cd $ROOT; export W=${W:-/tmp}; mkdir -p $W; date +%s > $W/t0; rm -rf $W/L; cp -r .lease $W/L; export L=$W/L; . $L/env.sh; bash .lease/prep.sh; nvidia-smi -L
g=0; for x in $LANES; do G=$g setsid bash $L/next.sh $x > $W/lane$g.log 2>&1 & g=$((g + 1)); done
sleep 4; tail -n 3 $W/lane*.log
