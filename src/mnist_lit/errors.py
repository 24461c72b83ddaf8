"""The one error a user can cause."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Wrong input: an option, a file, a folder. Its message is one line that says what to do; the exit code is 2."""
