"""Every stage that runs with this folder in PYTHONPATH notes, as it ends, its processor seconds,
the modules of the package that it has loaded, and which process started it.

Python imports a module of this name by itself before it runs anything.
"""

import atexit
import json
import os
import resource
import sys
from pathlib import Path


def note() -> None:
    spec = sys.modules["__main__"].__spec__
    if spec is None or spec.name != "flowquant.__main__":
        return
    words = 2 if sys.argv[1] == "dataset" else 1
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(part.ru_utime + part.ru_stime for part in used)
    loaded = {
        name.removeprefix("flowquant.")
        for name, module in sys.modules.items()
        if name.startswith("flowquant.") and not str(module.__file__).endswith("__init__.py")
    }
    stage, parent = " ".join(sys.argv[1 : 1 + words]), os.getppid()
    line = json.dumps(
        {"stage": stage, "seconds": seconds, "loaded": sorted(loaded), "parent": parent}
    )
    with Path(os.environ["STOPWATCH"]).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


atexit.register(note)
