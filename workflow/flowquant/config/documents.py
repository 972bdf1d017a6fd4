"""What is generated from the sections: the schema, and the tables of ``config/README.md``.

``python -m flowquant.config.documents`` writes both, in the project's folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from flowquant.config.configuration import Configuration
from flowquant.config.schema import allowed, json_schema, resolve, sections, sentence
from flowquant.runtime.files import atomic

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
README = ROOT / "config/README.md"
TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADER = "# Made by `make fix` from workflow/flowquant/config/: change the fields there.\n"


def schema_text() -> str:
    """The schema, for editors and the workflow catalogue."""
    return HEADER + yaml.safe_dump(json_schema(), sort_keys=False, allow_unicode=True, width=100)


def readme_text() -> str:
    """The manual, with the table of each section that it has a place for."""
    kinds = sections(Configuration)
    text = README.read_text(encoding="utf-8")
    return TABLE.sub(lambda place: place[1] + table(kinds[place[2]]) + place[3], text)


def table(section: type) -> str:
    """A section's keys as a Markdown table."""
    definitions = {"Configuration": json_schema(), **json_schema()["$defs"]}
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for name, node in definitions[section.__name__]["properties"].items():
        cells = (
            f"`{name}`",
            _default(node),
            allowed(resolve(node, None)),
            sentence(section, name).replace("``", "`"),
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(node: dict[str, Any]) -> str:
    if "default" not in node:
        return "–"
    value = node["default"]
    return "" if isinstance(value, dict) else f"`{json.dumps(value)}`".replace('"', "")


def write() -> None:
    """Write what is generated."""
    for path, text in ((SCHEMA, schema_text()), (README, readme_text())):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
