"""What trials found, and the tables of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What one trial found."""

    of: str  # a stage, or an input's kind
    what: str  # a signal, or a mutation
    state: str = ""
    peak: int = 0  # bytes, beyond a good run's
    seconds: float = 0.0
    said: str = ""
    number: int = 0
    where: str = ""
    problems: dict[str, str] = field(default_factory=dict)


def table(found: Sequence[Outcome]) -> str:
    """A Markdown table with a row for each stage and signal or mutation, then what is wrong."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in found:
        groups[outcome.of, outcome.what].append(outcome)
    kinds = sorted({name for outcome in found for name in outcome.problems})
    states = sorted({outcome.state for outcome in found})
    head = ["of", "what", "trials", *states, *kinds, "most MiB more", "slowest s"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for (of, what), members in [*sorted(groups.items()), (("all", ""), list(found))]:
        problems = Counter(name for outcome in members for name in outcome.problems)
        ended = Counter(outcome.state for outcome in members)
        lines.append(
            " | ".join(
                [
                    of,
                    what,
                    str(len(members)),
                    *(str(ended[name]) for name in states),
                    *(str(problems[name]) for name in kinds),
                    f"{max((outcome.peak for outcome in members), default=0) / 2**20:.0f}",
                    f"{max((outcome.seconds for outcome in members), default=0):.1f}",
                ]
            )
        )
    text = "\n".join(f"| {line} |" for line in lines)
    wrong = [
        f"- {outcome.of}, {outcome.what} (trial {outcome.number}, {outcome.where}): {name}: {said}"
        for outcome in found
        for name, said in outcome.problems.items()
    ]
    return "\n".join([text, "", *wrong])
