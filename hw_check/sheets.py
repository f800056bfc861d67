"""The sheets that can be graded."""

from hw_check.rows import Sheet

NAMES = (
    "eecs545-w20-hw4", "eecs545-w20-hw4-q5", "ist-2021-22-hw2", "ist-2023-24-hw2", "convnets-2024-a2", "dsl-2019-hw3"
)  # fmt: skip


def sheet(name: str) -> Sheet:
    """The sheet called `name`, one of NAMES. It is imported here, because its grader imports NumPy or torch."""
    if name == "eecs545-w20-hw4":
        from hw_check.eecs545 import sheet as eecs545

        return eecs545.SHEET
    from hw_check.networks import convnets_2024, dsl_2019, ist_2021_22, ist_2023_24, transfer

    graders = (ist_2021_22, ist_2023_24, convnets_2024, dsl_2019, transfer)
    return {grader.SHEET.name: grader.SHEET for grader in graders}[name]
