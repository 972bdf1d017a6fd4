"""docs/tour.ipynb runs from its first cell to its last, and shows what its code finds."""

import re
from pathlib import Path
from typing import Any

import pytest

from flowquant.runtime.digest import PACKAGE
from project import ROOT

INSTALL = "needs pip install -r envs/requirements-dev.txt"
nbclient = pytest.importorskip("nbclient", reason=INSTALL)
nbformat = pytest.importorskip("nbformat", reason=INSTALL)
pytest.importorskip("ipykernel", reason=INSTALL)

TOUR = ROOT / "docs/tour.ipynb"


@pytest.fixture(scope="module")
def committed() -> Any:
    return nbformat.read(TOUR, as_version=4)


def test_every_cell_runs(
    committed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """``pytest --fix`` writes what the cells put out."""
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    found = nbformat.from_dict(committed)
    where = {"metadata": {"path": str(TOUR.parent)}}
    nbclient.NotebookClient(found, resources=where, timeout=600, record_timing=False).execute()
    for cell in code(found):
        # Progress bars are for those who wait.
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    if request.config.getoption("--fix"):
        found.metadata.language_info = {"name": "python"}
        nbformat.write(found, TOUR)
        committed = found
    counts = [cell.execution_count for cell in code(found)]
    assert counts == list(range(1, len(counts) + 1))
    assert [shown(cell) for cell in code(committed)] == [shown(cell) for cell in code(found)]


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> list[str]:
    """What a cell puts out: text, less digits, which rounding may change, and kinds of pictures."""
    return [
        re.sub(r"[\d.]+", "#", output["text"])
        if output.output_type == "stream"
        else " ".join(sorted(output["data"]))
        for output in cell.outputs
    ]


def test_it_is_committed_with_its_pictures(committed: Any) -> None:
    pictures = [kinds for cell in code(committed) for kinds in shown(cell) if "image/png" in kinds]
    assert len(pictures) == 4
    assert TOUR.stat().st_size < 600_000
