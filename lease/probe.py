"""How many steps of refined-2-small fit into 286 s, by its probe; as configuration."""
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
first, last = rows[1], rows[-1]  # the first has the start in it
each = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
steps = min(80000, int((286 - first["seconds"]) / each) // 500 * 500)
print(f"methods: {{refined-2-small: {{refine: {{steps: {steps}}}}}}}  # {1000 * each:.3f} ms each, {first['seconds']:.1f} s until step {first['step']}")
