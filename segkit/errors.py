"""The errors of the package: one root, and one class for each kind of input that the user can fix."""


class SegkitError(Exception):
    """Something failed that no change of the input would fix: exit status 1."""

    status = 1


class InputError(SegkitError):
    """The input cannot be used: exit status 2. The message names the place, what was found and what to do."""

    status = 2


class SourceError(InputError):
    """A source file, its tables or its columns do not fit the contract."""


class ColumnError(SourceError):
    """A table has no such column, or none that looks like what each event needs."""


class SchemaError(InputError):
    """A table between two steps does not have the columns, types or values that are declared."""


class BudgetError(InputError):
    """These customers cannot be segmented in the number, size or certainty that was asked for."""


class RunError(InputError):
    """A run folder is missing, unfinished, read-only because it is finished, or in another format."""
