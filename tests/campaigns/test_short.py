"""A short, seeded part of each campaign; `make campaign` runs all of them."""

import os
import subprocess
import sys
from pathlib import Path

from project import ROOT


def test_whatever_happens_ends_well(tmp_path: Path) -> None:
    """Some stages killed and run again, some inputs and configurations that are none."""
    counts = ["--kills=30", "--workflow-kills=0", "--inputs=60", "--configurations=100"]
    done = subprocess.run(
        [sys.executable, "-m", "campaigns", *counts, f"--folder={tmp_path}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([f"{ROOT}/workflow", f"{ROOT}/tests"])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # Of the tables, only what is wrong.
    wrong = "\n".join(line for line in done.stdout.splitlines() if line.startswith("- "))
    assert done.returncode == 0, wrong + done.stderr[-2000:]
