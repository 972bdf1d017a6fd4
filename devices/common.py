"""What the measuring programs share: places, the configuration, how a result is written.

Environment (all have defaults): SOURCE, the folder with Snakefile, workflow/, config/ and profiles/;
DATA, the folder with fashion-mnist/ and cifar10-jpeg/; WORK, where results go (outside the tree);
OUT, where JSON goes; RESOURCES, for Snakemake's --resources; DEVICE (auto, cuda, cpu); TINY=1 for settings that a CPU can take.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

os.environ.update(NCCL_NVLS_ENABLE="0", TORCH_SYMM_MEM_DISABLE_MULTICAST="1", NVSHMEM_DISABLE_NVLS="1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Snakemake runs elsewhere.
paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in paths if path)

import flowquant

SOURCE = Path(os.environ.get("SOURCE") or Path(flowquant.__path__[0]).parents[1]).resolve()
WORK = Path(os.environ.get("WORK", "/tmp/measured")).resolve()
OUT = Path(os.environ.get("OUT", "/tmp/measured/out")).resolve()
TINY = os.environ.get("TINY") == "1"
DEVICE = os.environ.get("DEVICE", "auto")
PREPARED = WORK / "prepared"


def data() -> Path:
    places = [os.environ.get("DATA", "shared/data"), SOURCE / "shared/data", SOURCE.parent / "shared/data"]
    places += [Path.cwd() / "../shared/data"]
    return next((Path(p).resolve() for p in places if Path(p).is_dir()), Path(places[0]).resolve())


def column() -> dict:
    """The paper's Fashion-MNIST column: nine variants."""
    config = {
        "run": "column",
        "device": DEVICE,
        "batch": 1000,
        "data_root": str(data()),
        "datasets": ["fmnist"],
        "methods": {"uniform": {"levels": "uniform"}, "ot": {"levels": "equal_mass"}},
        "bits": [2, 4, 8, 16],
        "evaluation": {"extractor": "classifier"},
        "presets": {
            "fmnist": {
                "training": {"epochs": int(os.environ.get("EPOCHS", "3"))},
                "classifier": {"epochs": int(os.environ.get("CLASSIFIER_EPOCHS", "2")), "flip": True},
                "sampling": {"steps": int(os.environ.get("STEPS", "500"))},
            }
        },
    }
    if model := os.environ.get("MODEL"):
        config["presets"]["fmnist"]["checkpoint"] = str(Path(model).resolve())
    if TINY:
        small = {
            "network": {"width": 16, "heads": 2, "layers": 1, "feedforward": 32},
            "training": {"epochs": 1, "warmup_epochs": 0, "ema": None},
            "sampling": {"steps": 2, "per_class": 10},
            "classifier": {"architecture": "shufflenet_v2_x0_5", "epochs": 1},
        }
        config |= {"datasets": ["digits"], "presets": {"digits": small}, "batch": 50}
        config["bits"] = [int(b) for b in os.environ.get("BITS", "2 4 8 16").split()]
    return config


def unet() -> dict:
    """The CIFAR-10 U-Net, without dropout, which would differ from device to device."""
    name = "cifar10_jpeg_unet"
    config = {
        "run": "unet",
        "device": DEVICE,
        "data_root": str(data()),
        "datasets": [name],
        "methods": {"ot": {"levels": "equal_mass"}},
        "bits": [2],
        "evaluation": {"extractor": "classifier"},
        "presets": {name: {"network": {"dropout": float(os.environ.get("DROPOUT", "0"))}}},
    }
    if TINY:
        network = {"family": "unet", "channels": 32, "channel_multipliers": [1, 1], "blocks": 1, "attention": [4], "head_channels": 8}
        training = {"batch": 64, "epochs": 100, "warmup_epochs": 1, "ema": 0.9}
        config |= {"datasets": ["digits"], "presets": {"digits": {"network": network, "training": training}}}
    return config


def run_of(config: dict):
    from flowquant.config.run import Run

    return Run.read(config, SOURCE)


def section(kind: type, values: object, **changes: object):
    """A section of the configuration with only the fields of ``kind``."""
    own = {f.name: getattr(values, f.name) for f in dataclasses.fields(kind)}
    return kind(**own | changes)


def snakemake(folder: Path, config: dict, *targets: str, seconds: float, gpus: int | None = None) -> tuple[float, str]:
    """Run the workflow in a folder of its own; seconds it took, and its output."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(config))
    cores = os.environ.get("CORES", "all")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SOURCE / "Snakefile"), "--cores", cores]
    command += ["--workflow-profile", str(SOURCE / "profiles/default"), "--configfile", "run.json", "--", *targets]
    if resources := os.environ.get("RESOURCES"):  # such as gpu=8
        command[-len(targets) - 1 : -len(targets) - 1] = ["--resources", resources]
    environment = dict(os.environ)
    if gpus is not None and DEVICE != "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(gpus)))
    log = folder / "snakemake.log"
    started = time.monotonic()
    with log.open("w") as file:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
    wall = time.monotonic() - started
    said = log.read_text()
    if done.returncode:
        raise RuntimeError(f"snakemake ended with {done.returncode}:\n{said[-4000:]}")
    return wall, said


def machine() -> str:
    try:
        ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        lines = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")
        lines = [line for line in lines if line]
        return f"{len(lines)} x {lines[0]}"
    except Exception:
        return "no GPU"


def report(name: str, work) -> None:
    """Do the work; print its result or its error as one JSON line, and write it under OUT."""
    OUT.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Out of time: what was started must not run beside the next program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("out of time"))
    try:
        found = {"ok": True} | work()
    except BaseException as error:
        traceback.print_exc()
        found = {"ok": False, "error": f"{type(error).__name__}: {str(error)[-1500:]}"}
    import torch

    found = {"program": name, **found, "program_seconds": round(time.monotonic() - started, 2)}
    found |= {"machine": machine(), "torch": torch.__version__, "cpus": os.cpu_count(), "tiny": TINY}
    (OUT / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    short = {k: v for k, v in found.items() if not (isinstance(v, list) and len(v) > 12)}
    print(json.dumps(short), flush=True)
    sys.exit(0 if found["ok"] else 1)
