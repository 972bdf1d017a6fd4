. $L/env.sh
nvidia-smi --query-gpu=index,utilization.gpu,memory.used --format=csv,noheader; uptime
for f in a b final; do [ -e $W/$f.log ] && echo == $f && tr '\r' '\n' < $W/$f.log | grep -E "rror|ended|snakemake|Failed|failed" | tail -n 12 | cut -c1-230; done
(models $W/A; models $W/B) | sort -u; (seconds $W/A; seconds $W/B) | sort -u; evals $W/A; evals $W/B; ls $W/*.done
