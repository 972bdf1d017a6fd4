"""The one exception for mistakes that a user can correct."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a file, a configuration or a command, reported in one message.

    Args:
        where: The file, configuration key or option at fault.
        found: What it is.
        expected: What it should be.
        remedy: What to do about it.
    """

    def __init__(self, where: object, *, found: str, expected: str, remedy: str) -> None:
        super().__init__(f"{where}: found {found}; expected {expected}. {remedy}")


def some(names: Iterable[object], most: int = 10) -> str:
    """At most ``most`` of the given names, comma-separated, with a count of the rest."""
    listed = [str(name) for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
