"""What a job that was killed for its memory is told to ask for."""

from pathlib import Path

import pytest

from flowquant.config.failures import out_of_memory

SNAKEMAKE = """\
Error in rule sample:
    message: SLURM-job '6' failed, SLURM status is: '{state}'. Detailed failure reason unavailable
    jobid: 2
    output: a.safetensors, a.png
    log: a.log, {log} (check log file(s) for error details)
    external_jobid: 6
"""


@pytest.mark.parametrize(
    ("state", "said", "killed"),
    [
        ("FAILED", "error: Detected 1 oom-kill event(s) in StepId=6.0. Some of your", True),
        ("FAILED", "error: Detected 1 oom_kill event in StepId=6.0. Some of the step", True),
        ("FAILED", "error: StepId=6.0 exceeded memory limit (57 > 52), being killed", True),
        ("OUT_OF_MEMORY", "", True),
        ("FAILED", "error: device: found 'cuda', but PyTorch sees no GPU here", False),
        ("TIMEOUT", "error: *** JOB 6 ON n CANCELLED DUE TO TIME LIMIT ***", False),
    ],
)
def test_who_was_killed_for_memory(tmp_path: Path, state: str, said: str, killed: bool) -> None:
    log, slurm = tmp_path / "snakemake.log", tmp_path / "6.log"
    slurm.write_text(said)
    log.write_text("Select jobs\n" + 2 * SNAKEMAKE.format(state=state, log=slurm))
    lines = list(out_of_memory([log]))
    assert [line.partition(". ")[0] for line in lines] == (
        ["rule sample: killed for its memory 2 times"] if killed else []
    )
    assert all("--set-resources 'sample:mem_mb=16000*attempt'" in line for line in lines)
