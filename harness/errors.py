"""Every exception that Aftershock raises on purpose, split by who must act.

    AftershockError
    ├── UsageError           you: the command line or a file that you named is wrong       exit 2
    │   ├── ScenarioError    you: a scenario says something that cannot be run             exit 2
    │   └── RunFolderError   you: the folder is not a run, or of an unreadable version     exit 2
    ├── SetupError           the environment: the system did not start, a tool is missing  exit 4
    ├── HealError            you, now: something that outlives the run is still changed    exit 5
    └── InternalError        us: a bug in Aftershock; the message says what to report      exit 70

Messages say what, where, what was expected, and what to do next. A person never sees a traceback for a mistake
of their own.
"""

from __future__ import annotations

__all__ = [
    "AftershockError",
    "HealError",
    "InternalError",
    "RunFolderError",
    "ScenarioError",
    "SetupError",
    "UsageError",
]


class AftershockError(Exception):
    """Base of all errors raised on purpose. Catch a subclass: each names who must act."""


class UsageError(AftershockError):
    """The command line, or a file named on it, is wrong. Correct it and run again."""


class ScenarioError(UsageError):
    """A scenario cannot be run as written. `problems` holds every mistake found, one sentence each."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n".join([f"{where}: {count}", *(f"  {problem}" for problem in problems)]))


class RunFolderError(UsageError):
    """A folder is not a run of ours, is incomplete beyond use, or was written by an unreadable version."""


class SetupError(AftershockError):
    """The system under test did not start, or this machine lacks something. The message says what and how to get it."""


class HealError(AftershockError):
    """Something that outlives the run is still changed. The message says what, and how to undo it by hand."""


class InternalError(AftershockError):
    """A bug in Aftershock itself. Please report it with the run folder, which is kept."""
