"""The one error of the embedded stack that a person is meant to read."""


class StackError(Exception):
    """The stack cannot be started or used as it is; the message is one sentence that says what to do."""
