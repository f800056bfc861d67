"""The sheets that can be graded."""

from hw_check.rows import Sheet

NAMES = ("eecs545-w20-hw4",)


def sheet(name: str) -> Sheet:
    """The sheet called `name`, one of NAMES. It is imported here, because its grader imports NumPy or torch."""
    from hw_check.eecs545 import sheet as eecs545

    return {"eecs545-w20-hw4": eecs545}[name].SHEET
