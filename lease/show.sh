export L=/tmp/L; . $L/env.sh
nvidia-smi --query-gpu=index,utilization.gpu,memory.used --format=csv,noheader; uptime
for f in a b final; do [ -e $W/$f.log ] && echo == $f && tr '\r' '\n' < $W/$f.log | grep -E "rror|ended|steps \(|Failed|failed|%\|█" | tail -n 7 | cut -c1-230; done
(models $W/A; models $W/B) | grep -E "refined|priced" | sort -u; (seconds $W/A "refine|priced"; seconds $W/B "refine|quantize/") | sort -u; evals $W/A; ls $W/*.done
