# After MNIST, on its GPU: the paper's column of Fashion-MNIST from data to plots, and the benchmark of CIFAR-10's network.
while [ ! -e $W/data3.done ]; do sleep 1; done
t=$(date +%s); C="$W/column.yaml" X="${XC:-}" smk $B 4; echo "column $(($(date +%s) - t)) s" | tee $W/out/column.txt
say benchmark; (C=$W/bench.yaml X="${XC:-}" smk $B 1 benchmark) > $W/out/benchmark.txt 2>&1; cp $B/results/h200-speed/speed/* $W/out/
touch $W/extra.done
