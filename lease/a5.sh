. $L/env.sh
(cd $W/B; tar cf - results) | (cd $W/A; tar xkf - 2>/dev/null)
SET="--set-resources refine:gpu=3 quantize_peer:device=cpu quantize_peer:gpu=0" smk $W/A ${G:-0,1} 8
touch $W/a5.done
