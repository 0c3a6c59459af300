"""The error family: one root; what the user can mend ends a command with status 2."""


class SegkitError(Exception):
    """Something failed that no change of the input would mend: exit status 1."""

    status = 1


class InputError(SegkitError):
    """What was given cannot be used; the message says what, where and what to do: exit status 2."""

    status = 2


class SourceError(InputError):
    """A source file, its tables or its columns do not fit the contract."""


class SchemaError(InputError):
    """A table between two steps does not have the columns, types or values it should."""


class BudgetError(InputError):
    """The asked number, size or certainty of segments cannot be met by these customers."""


class RunError(InputError):
    """A run folder is missing, unfinished, finished and so read-only, or of another make."""
