"""POT is imported without other array libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("library", ["jax", "cupy", "tensorflow"])
def test_no_other_array_library_is_started(tmp_path: Path, library: str) -> None:
    (tmp_path / f"{library}.py").write_text("raise SystemExit('started')\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("POT_BACKEND")
    }

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            env=environment | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )

    assert run("import ot").stderr.strip() == "started"
    found = run("from flowquant.runtime.pot import ot; print(ot.__name__)")
    assert (found.returncode, found.stdout.strip()) == (0, "ot"), found.stderr
