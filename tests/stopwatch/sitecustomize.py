"""Every stage that runs with this folder in PYTHONPATH notes its processor seconds as it ends.

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
    line = json.dumps([" ".join(sys.argv[1 : 1 + words]), seconds])
    with Path(os.environ["STOPWATCH"]).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


atexit.register(note)
