"""What the programs share. TINY=1: sizes that a CPU can take. OUT: where JSON goes."""
import dataclasses, json, os, sys, time
from pathlib import Path

import torch

TINY = os.environ.get("TINY") == "1"
DEVICE = os.environ.get("DEVICE", "auto")
OUT = Path(os.environ["OUT"])
WORK = Path(os.environ.get("WORK", "/tmp/gpus-work"))


def section(kind, values, **changes):
    own = {f.name: getattr(values, f.name) for f in dataclasses.fields(kind)}
    return kind(**own | changes)


def preset(name, **network):
    """A preset of config/datasets.yaml, in the folder that the package lies in."""
    import flowquant
    from flowquant.config.run import Run

    config = {"run": "x", "datasets": [name], "methods": {"ot": {"levels": "equal_mass"}}, "bits": [2]}
    if network:
        config["presets"] = {name: {"network": network}}
    return Run.read(config, Path(flowquant.__path__[0]).parents[1]).presets[name]


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def save(name, found):
    OUT.mkdir(parents=True, exist_ok=True)
    found = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"} | found
    temporary = OUT / f".{name}"
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.rename(OUT / f"{name}.json")


def load(name):
    path = OUT / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def means(values, count):
    parts = [values[i : i + count] for i in range(0, len(values), count)]
    return [sum(part) / len(part) for part in parts]
