"""The errors a user can cause, each with the exit code that every command documents."""

from __future__ import annotations


class MetageneError(Exception):
    """A problem whose message is meant for the user as it stands: what, where, what to do.

    ``exit_code`` is what a command that cannot go on returns: 1 for a run or an input whose
    content failed, 2 for usage, configuration and missing input.
    """

    exit_code = 1


class DataError(MetageneError):
    """An input was read and its content is damaged or contradicts the configuration."""


class RunError(MetageneError):
    """A run that had started (training, evaluation, prediction) could not be finished."""


class InputError(MetageneError):
    """An input is missing, unreadable or not of a kind the command takes."""

    exit_code = 2


class ConfigError(MetageneError):
    """A configuration has problems; each is one line with file and line number."""

    exit_code = 2

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        # As an exception comes back from another process: made again from what it was made from.
        return type(self), (self.problems,)
