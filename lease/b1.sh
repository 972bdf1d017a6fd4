. $L/env.sh
smk $W/B 1 1 $R/classifiers/$D.json
