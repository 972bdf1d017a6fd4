"""Training on several GPUs killed (SIGTERM) and resumed: python resume.py [N] (after prepare.py unet).

Two runs of `flowquant train` side by side, on N GPUs each (2): one goes through, one is ended after
about half of its steps and started again. The curves and the weights must be the same.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from common import DEVICE, PREPARED, TINY, WORK, report, run_of, unet


def main() -> dict:
    config = unet()
    name = config["datasets"][0]
    epochs = int(os.environ.get("EPOCHS", "3"))
    batch = int(os.environ.get("BATCH", "64" if TINY else "512"))
    changed = {"epochs": epochs, "batch": batch, "warmup_epochs": 1}
    if TINY:
        changed["epochs"] = epochs = int(os.environ.get("EPOCHS", "4"))
    config["presets"][name].setdefault("training", {}).update(changed)
    run = run_of(config)

    class wildcards:
        dataset = name

    words = [*run.model_options(wildcards), *run.training_options(wildcards)]
    folder = WORK / "resume"
    shutil.rmtree(folder, ignore_errors=True)

    def start(which: str) -> tuple[subprocess.Popen, object]:
        place = folder / which
        place.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "flowquant", "train", f"--data={PREPARED}/results/data/{name}.safetensors"),
            *(f"--output={place}/model.safetensors", f"--report={place}/model.json", f"--curve={place}/curve.jsonl"),
            *(f"--checkpoint={place}/checkpoint.pt", f"--dataset={name}", f"--device={DEVICE}", f"--devices={count}"),
            *words,
        ]
        log = (place / "log.txt").open("a")
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT), log

    def said(which: str) -> str:
        return (folder / which / "log.txt").read_text().replace("\r", "\n")

    def steps(which: str) -> int:
        """Steps done, as the bar says."""
        lines = [line for line in said(which).split("\n") if "step" in line and "|" in line]
        try:
            return int(lines[-1].split("|")[2].split("/")[0]) if lines else 0
        except (ValueError, IndexError):
            return 0

    def ended(process: subprocess.Popen, deadline: float) -> int:
        return process.wait(max(1, deadline - time.monotonic()))

    deadline = time.monotonic() + 145
    processes = []
    try:
        whole, _ = start("whole")
        processes.append(whole)
        if os.environ.get("SIDE_BY_SIDE", "1") == "0":
            ended(whole, deadline)
        first, _ = start("killed")
        processes.append(first)
        total = None
        while total is None or steps("killed") < total // 2:
            if first.poll() is not None:
                raise RuntimeError(f"ended before it was killed: {said('killed')[-2000:]}")
            if time.monotonic() > deadline - 40:
                break
            bars = [line for line in said("killed").split("\n") if "|" in line and "/" in line and "step" in line]
            if bars:
                total = int(bars[-1].split("|")[2].split("/")[1].split()[0])
            time.sleep(0.1)
        at = steps("killed")
        first.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        code = ended(first, deadline)
        leaving = time.monotonic() - asked
        second, _ = start("killed")
        processes.append(second)
        codes = [ended(whole, deadline), ended(second, deadline)]
        if any(codes):
            raise RuntimeError(f"ended with {codes}: {said('whole')[-1500:]} {said('killed')[-1500:]}")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
    curves = [[json.loads(line) for line in (folder / w / "curve.jsonl").read_text().splitlines()] for w in ("whole", "killed")]
    digests = [hashlib.sha256((folder / w / "model.safetensors").read_bytes()).hexdigest()[:16] for w in ("whole", "killed")]
    differences = [abs(a[k] / b[k] - 1) for a, b in zip(*curves) for k in ("train_loss", "validation_loss")]
    return {
        "devices": count,
        "batch": batch,
        "killed_at_step": at,
        "steps": total,
        "exit_code_when_asked": code,
        "seconds_until_left": round(leaving, 2),
        "resumed": [line for line in said("killed").split("\n") if line.startswith("resuming")],
        "same_weights": digests[0] == digests[1],
        "curve_largest_relative_difference": max(differences),
        "curve": [row["train_loss"] for row in curves[0]],
        "curve_killed": [row["train_loss"] for row in curves[1]],
    }


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    report(f"resume-{count}", main)
