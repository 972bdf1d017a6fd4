"""Ends with 0 if a row of two bits is within 2.08 bits and 1.06 times full precision."""
import glob, json, statistics as s, sys
w, d = sys.argv[1], sys.argv[2]
def fid(v): 
    f = glob.glob(f"{w}/[AB]/results/frontier/evaluation/{d}/{v}/seed*.classifier.json")
    return s.mean(json.load(open(x))["fid"] for x in f) if f else float("nan")
full, good = fid("full"), False
for v in ("refined-2/5bit", "refined-2-levels/2bit"):
    f = glob.glob(f"{w}/[AB]/results/frontier/quantized_models/{d}/{v}.json")
    if f:
        bits = json.load(open(f[0]))["effective_bits"]; times = fid(v) / full
        good |= bits <= 2.08 and times <= 1.06
        print(v, bits, times, full, flush=True)
sys.exit(0 if good else 1)
