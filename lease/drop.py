"""Rows of which something is missing are taken away: drop.yaml."""
import json, os, sys
root, dataset, seeds, to = sys.argv[1], sys.argv[2], [int(s) for s in sys.argv[3].split(",")], sys.argv[4]
rows = {"refined-3": 6, "refined-1": 1, "refined-half": 0.5, "refined-2-levels": 2}
def whole(v):
    e, d = f"{root}/evaluation/{dataset}/{v}", f"{root}/downstream/{dataset}/{v}"
    return os.path.exists(f"{root}/quantized_models/{dataset}/{v}.json") and all(os.path.exists(f"{e}/seed{s}.classifier.json") and os.path.exists(f"{d}/seed{s}.json") for s in seeds)
good = {n: b for n, b in rows.items() if whole(f"{n}/{b}bit")}
json.dump({"methods": {n: None for n in rows if n not in good}}, open(to, "w"))
print("whole:", *good)
