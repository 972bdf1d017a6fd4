export L=/tmp/L; . $L/env.sh; t0=$(date +%s)
while [ ! -e /tmp/tried ] && [ $(($(date +%s) - t0)) -lt 200 ]; do sleep 1; done
models $W/A; seconds $W/A
bash $L/subst.sh $(python3 $L/choose.py $W/A/$R fmnist 2> /tmp/chosen); cat /tmp/chosen; grep -q "^cool" /tmp/chosen && sed -i '/refined-2\|refined-3/s/learning_rate: 1.0e-3,/learning_rate: 3.0e-4,/' /tmp/lease.yaml && sed -n 7,12p /tmp/lease.yaml
setsid bash $L/a3.sh > /tmp/a3.log 2>&1 &
setsid bash $L/b3.sh > /tmp/b3.log 2>&1 &
sleep ${1:-120}; bash $L/show.sh
