"""The role of each command-line argument, from which all lists of arguments are derived."""

import enum


class Role(enum.Enum):
    """The kind of a command-line argument, declared once for each flag by `hw_common.commands.cli.add_flag`."""

    TRAINED = "trained"  # a setting of the training; a resumed run has the same value
    INPUT = "input"  # a data set or weights, by path or name; the path may change on resume, the content may not
    PLACE = "place"  # a path or address of data or results, which may change on resume
    RUNNING = "running"  # a setting of the machine, such as --device; a resumed run has the same value
    OUTPUT = "output"  # additional output, which may change on resume
    CALL = "call"  # an option of a single call of the command, such as --overwrite

    @property
    def decides_result(self) -> bool:
        """Whether training with different values gives different results on the same machine."""
        return self in (Role.TRAINED, Role.INPUT)

    @property
    def may_change_on_resume(self) -> bool:
        """Whether a run may be resumed with a new value."""
        return self not in (Role.TRAINED, Role.RUNNING)

    @property
    def may_have_moved(self) -> bool:
        """Whether the value is a path or address that may change on resume."""
        return self in (Role.INPUT, Role.PLACE)
