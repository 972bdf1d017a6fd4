. $L/env.sh
nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader; uptime
for g in $(seq 0 $((NG - 1))); do echo "== GPU $g"; G=$g; . $L/env.sh
 tr '\r' '\n' < $W/a$g.log | grep -E "rror|ended|snakemake|Failed|failed|^\[" | tail -n 16 | cut -c1-160
 models $A; seconds $A; evals $A; ls $A/*.done $A/trained
done; tail -n 1 $W/out/*.txt; ls $W/*.done
