"""From what the trials say: the arguments of subst.sh."""
import json, math, os, sys
root = sys.argv[1]
def get(kind, variant):
    try: return json.load(open(f"{root}/{kind}/{sys.argv[2]}/{variant}.json"))
    except Exception: return None
def eff(d): return d["effective_bits"] if d else None
def scaled(lam, e, target, slope, low=.06):
    if e is None or target - low <= e <= target: return lam
    return lam * math.exp((e - target + .01) / slope)
q = "quantized_models"
p4 = scaled(.0073, eff(get(q, "priced-4/7bit")), 4.185, .70)
e3 = eff(get(q, "priced-3/6bit"))
p3 = scaled(.031, e3, 3.185, .667)
p2 = scaled(.135, eff(get(q, "priced-2/5bit")), 2.185, .607)
t2 = {k: get(q, f"t2-{k}/5bit") for k in ("hot", "mid", "cool")}
t1 = {k: get(q, f"t1-{k}/4bit") for k in ("hot", "mid")}
after = lambda d: d["velocity_error"]["after"] if d else 9
best2, best1 = min(t2, key=lambda k: after(t2[k])), min(t1, key=lambda k: after(t1[k]))
u2 = eff(get("unrefined", f"t2-{best2}/5bit"))
r2 = eff(t2[best2]); grown = (r2 - u2) if r2 and u2 else 0
P2 = scaled(.17, r2, 2.072, .607, .03)
e3l = None if e3 is None else e3 - .667 * math.log(.036 / .031) + grown
P3 = scaled(.036, e3l, 3.08, .667, .03)
P1 = scaled(.72, eff(t1[best1]), 1.14, .63, .03)
value = {"hot": 2e-3, "mid": 6e-4, "cool": 2e-4}
long2 = {"hot": 1e-3, "mid": 6e-4, "cool": 2e-4}[best2]
print(*("%.5f" % v for v in (p4, p3, p2, P2, P3, P1, value[best2], long2, long2, value[best1], value[best1])))
print("best", best2, best1, {k: after(d) for k, d in (t2 | t1).items()}, "grown", grown, file=sys.stderr)
if best2 == "cool": print("cool", file=sys.stderr)
