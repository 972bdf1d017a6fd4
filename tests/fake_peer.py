"""A peer that is no project's: even levels from minimum to maximum, as small as can be."""

import argparse
import json
from pathlib import Path


def main() -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("output")
    parser.add_argument("counts")
    parser.add_argument("--bits", type=int)
    parser.add_argument("--device")
    parser.add_argument("--group", type=int)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--codebook", action="store_true")
    given = parser.parse_args()
    values, counts = {}, {}
    for name, weight in load_file(given.weights).items():
        groups = weight.reshape(-1, given.group or weight[0].size)
        low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
        step = np.maximum((high - low) / (2**given.bits - 1), 1e-30)
        values[name] = (np.round((groups - low) / step) * step + low).reshape(weight.shape)
        counts[name] = {"codes": -(-weight.size * given.bits // 8), "scales": 8 * len(groups)}
    save_file(values, given.output)
    Path(given.counts).write_text(json.dumps({"package": "fake 1", "tensors": counts}))


if __name__ == "__main__":
    main()
