. $L/env.sh; echo "at $(($(date +%s) - $(cat $W/t0)))"
nvidia-smi --query-gpu=index,utilization.gpu,memory.used --format=csv,noheader; uptime
for x in seed0 seed1 mnist2 cifar3 coordinate0 suite0; do echo "== $x"; tr '\r' '\n' < $W/$x.log | grep -E "rror|ended|snakemake|ailed|^\[|^methods" | tail -n 12 | cut -c1-150; done
for g in 0 1 2 3; do G=$g; . $L/env.sh; echo "== GPU $g"; models $A; seconds $A 'train|hessians|refine|quantize' | grep -vE "ot/|uniform" | tr '\n' ';'; evals $A; done
cat $W/out/gpus.txt; tail -n 1 $W/out/*.txt; ls $W/*.done
