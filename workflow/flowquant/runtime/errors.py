"""The one exception for mistakes that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in a file, a configuration or a command, told in one message.

    Args:
        where: The file or configuration key at fault.
        found: What stands there.
        expected: What should stand there.
        remedy: What to do about it.
    """

    def __init__(self, where: object, *, found: str, expected: str, remedy: str) -> None:
        super().__init__(f"{where}: found {found}; expected {expected}. {remedy}")


def some(names: object, most: int = 10) -> str:
    """At most ``most`` of the given names, comma-separated, with a count of the rest."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
