"""The one exception that means "wrong input": a clear line that names the file and the mend."""

from __future__ import annotations


class InputError(ValueError):
    """Wrong use or wrong input.

    The command line prints its message as one line and exits with code 2. The message names the file or
    option at fault and what to do about it.
    """


class Interrupted(KeyboardInterrupt):
    """A long run was stopped by a signal after its state was saved; the command line exits with code 130."""


class Failed(RuntimeError):
    """Right use and right input, but the work could not be done; the command line exits with code 1."""
