. $L/env.sh
nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader; uptime
tr '\r' '\n' < $W/a.log | grep -E "rror|ended|snakemake|Failed|failed|^\[" | tail -n 24 | cut -c1-200
models $W/A; seconds $W/A; evals $W/A; tail -n 1 $W/out/*.txt; ls $W/*.done
