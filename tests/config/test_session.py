"""What the screen shows of a failed job, whatever its log is like."""

import logging
from pathlib import Path
from typing import Any

import pytest

from flowquant.config.session import LINES, Screen

BAR = "\rmodel: 0%|  |\rmodel: 50%|# | 9/18\n"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (
            f"{BAR}error: loss of nan; expected\na finite one\n",
            ["error: loss of nan; expected", "a finite one"],
        ),
        (BAR, ["model: 50%|# | 9/18"]),
        ("\n".join(map(str, range(100))), [str(line) for line in range(100 - LINES, 100)]),
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_failed_job(log: str, shown: list[str], interrupted: bool, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(log)
    assert screen([job_error(path)], interrupted) == (
        []
        if interrupted
        else ["", "failed: job 4 (train), for model", f"the end of {path}:"]
        + [f"    {line}" for line in shown]
    )


@pytest.mark.parametrize("content", ["", None])
def test_a_job_without_a_word(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    if content is not None:
        path.write_text(content)
    assert screen([job_error(path)])[-1] == f"{path} says nothing"


def test_what_else_is_said(tmp_path: Path) -> None:
    said = [
        {"msg": "RuleException: CalledProcessError in line 3: Command …", "event": "error"},
        {"msg": "Select jobs to execute..."},
        {"msg": "WorkflowError: a file is missing", "event": "error"},
        {"msg": "quiet"},
    ]
    assert screen(said) == ["WorkflowError: a file is missing"]


def job_error(log: Path) -> dict[str, Any]:
    return {
        "event": "job_error",
        "rule_name": "train",
        "jobid": 4,
        "output": ["model", "report"],
        "log": [str(log)],
        "aux": {},
    }


def screen(records: list[dict[str, Any]], interrupted: bool = False) -> list[str]:
    """The lines that a person sees."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.msg != "quiet")
    shown = Screen(handler, lambda: interrupted)
    made = map(logging.makeLogRecord, records)
    return [
        line for record in made if shown.filter(record) for line in shown.format(record).split("\n")
    ]
