"""Snakemake's records of how each file was made, kept beside the files.

They say with which options, code and inputs, and what each input held (SHA-256): what has to be
known to tell whether a file is stale. A copy of the results takes them along, so that a fresh clone
knows as much, whatever times the copies have.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

NAME = ".records"


def keep_records(results: Path, records: Path = Path(".snakemake/metadata")) -> None:
    """Make ``records`` a link to a folder in ``results``; what was there moves with it.

    Where links cannot be made all stays as it was: only copies know less.

    Args:
        results: Folder of all results; made if need be.
        records: Where Snakemake looks for its records.
    """
    kept = results / NAME
    with suppress(OSError):
        # Also where the results were deleted, and the link leads nowhere.
        kept.mkdir(parents=True, exist_ok=True)
        if records.is_symlink():
            return
        if records.is_dir():
            shutil.copytree(records, kept, dirs_exist_ok=True)
            shutil.rmtree(records)
        records.parent.mkdir(exist_ok=True)
        records.symlink_to(os.path.relpath(kept.resolve(), records.parent.resolve()))
