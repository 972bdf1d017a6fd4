# subst.sh P4 P3 P2 E2 E3 E1 VS V2 V3 V1 VV
i=1; f=${W:-/tmp}/lease.yaml; cp $(dirname $0)/lease.yaml $f
for k in P4 P3 P2 E2 E3 E1 VS V2 V3 V1 VV; do sed -i "s/\b$k\b/${!i}/g" $f; i=$((i+1)); done; sed -i "s/: V2}/: $8}/; s/entropy: E2/entropy: $4/" $f; cat $f | head -14
