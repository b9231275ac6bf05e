"""Errors that reach the user as one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake the user can mend; its message is one line: what came, what was expected, what to try.

    The command line prints the message without a traceback and exits with code 2.
    """


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'ecm'?"`` for the option closest to ``name``, or an empty string."""
    matches = get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


class TrainingFailed(Exception):
    """A run that could not go on (not the user's words): one line, exit code 1."""
