"""Links between the project's pages lead somewhere."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from project import ROOT

# Code may look like a link.
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|<img [^>]*src=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


def pages() -> list[str]:
    found = subprocess.run(
        ["git", "ls-files", "-z", "*.md", "*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in found.stdout.split("\0") if name)


def written(page: Path) -> str:
    """A page's text; of a notebook, that between the code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings: lower case, words with dashes, nothing else."""
    text = re.sub(r"```.*?```", "", written(page), flags=re.DOTALL)
    shown = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in shown}


def broken(page: Path) -> list[str]:
    text = CODE.sub("", written(page))
    wrong = []
    for link in map("".join, LINK.findall(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", pages())
def test_links_of_a_page(page: str) -> None:
    assert broken(ROOT / page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One & two\n[a](#one--two) [b](#three) [c](none.md) `[d](none.md)`\n")
    with page.open("a") as more:
        more.write('<img align="right" src="none.png">\n')
    assert broken(page) == ["#three", "none.md", "none.png"]
