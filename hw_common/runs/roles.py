"""The role of each command-line argument, from which all lists of arguments are derived."""

import enum


class Role(enum.Enum):
    """What an argument decides. Each flag declares its role once, in `hw_common.commands.cli.add_flag`."""

    TRAINED = "trained"  # what is trained: the same value on resume
    INPUT = "input"  # a file that is trained on, or a name in its place: on resume, the hash of its content is compared
    PLACE = "place"  # where data and results are: a path or an address on one machine
    RUNNING = "running"  # how it runs: no part of the question, but the same bits need the same value
    OUTPUT = "output"  # what is written besides the results
    CALL = "call"  # what a single call of the command does

    @property
    def decides_result(self) -> bool:
        """Whether trainings with different values give different results on the same machine."""
        return self in (Role.TRAINED, Role.INPUT)

    @property
    def may_change_on_resume(self) -> bool:
        """Whether a run may be resumed with another value than it was started with."""
        return self not in (Role.TRAINED, Role.RUNNING)

    @property
    def may_have_moved(self) -> bool:
        """Whether the value is a path that may be another one when a run is resumed."""
        return self in (Role.INPUT, Role.PLACE)
