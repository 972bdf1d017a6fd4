"""What Slurm wrote of jobs that failed, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# Of one failed job, in Snakemake's log: the rule, what is known of it, its log files.
FAILED = re.compile(r"^Error in rule (\w+):\n(.*?)^ +log: (.*?) \(check log", re.M | re.S)
# By cgroup (`oom_kill` since Slurm 23) or by Slurm's own count. Its state seldom tells: where the
# kernel kills a process of a step, the job ends as FAILED.
KILLED = re.compile(r"oom.kill event|exceeded memory limit|status is: 'OUT_OF_MEMORY'")


def out_of_memory(logs: Iterable[str | Path]) -> Iterable[str]:
    """A line for each rule of which a job was killed for its memory.

    Args:
        logs: What Snakemake wrote of the run.
    """
    failed: dict[str, int] = {}
    log = "\n".join(Path(path).read_text(errors="replace") for path in logs)
    for rule, said, files in FAILED.findall(log):
        paths = [Path(name) for name in files.split(", ")]
        texts = [path.read_text(errors="replace") for path in paths if path.is_file()]
        if any(KILLED.search(text) for text in (said, *texts)):
            failed[rule] = failed.get(rule, 0) + 1
    for rule, count in failed.items():
        times = "once" if count == 1 else f"{count} times"
        yield (
            f"rule {rule}: killed for its memory {times}. Give it more than its `mem_mb` in "
            f"workflow/rules, in MB, here 16 GB and with each retry as much again: "
            f"--set-resources '{rule}:mem_mb=16000*attempt'"
        )
