"""Rows of which something is missing are taken away: drop.yaml, and pairs to compare."""
import json, os, sys
root, dataset, seeds = sys.argv[1], sys.argv[2], [int(s) for s in sys.argv[3].split(",")]
rows = {"methods": {"uniform": [2, 4], "ot": [2, 4], "lloyd": [2, 3, 4], "priced-4": [7], "priced-3": [6], "priced-2": [5], "refined-2-1000": [5], "refined-2-5000": [5], "refined-2": [5], "refined-3": [6], "refined-vectors": [0.875], "refined-half": [0.5]},
 "peers": {"hqq": [2, 3, 4], "nf4": [4], "nf4-double": [4], "torchao": [2, 3, 4], "quanto": [2, 4], "sdnq": [2, 3, 4], "sdnq-codebook": [2, 3, 4], "sdnq-svd": [2, 3, 4]}}
def whole(v):
    e, d = f"{root}/evaluation/{dataset}/{v}", f"{root}/downstream/{dataset}/{v}"
    return os.path.exists(f"{root}/quantized_models/{dataset}/{v}.json") and all(os.path.exists(f"{e}/seed{s}.classifier.json") and os.path.exists(f"{d}/seed{s}.json") for s in seeds)
out, kept = {"methods": {}, "peers": {}}, set()
for section, found in rows.items():
    for name, widths in found.items():
        good = [b for b in widths if whole(f"{name}/{b}bit")]
        kept |= {f"{name}/{b}bit" for b in good}
        if len(good) < len(widths): out[section][name] = {"bits": good} if good else None
ours = {4: "priced-4/7bit", 3: "priced-3/6bit", 2: "priced-2/5bit"}
pairs = [[o, f"{p}/{b}bit"] for b, o in ours.items() for p, w in rows["peers"].items() if b in w and o in kept and f"{p}/{b}bit" in kept]
out["comparisons"] = {"pairs": pairs}
json.dump(out, open(sys.argv[4], "w"))
print(json.dumps({k: v for k, v in out.items() if k != "comparisons"}), len(pairs), "pairs")
