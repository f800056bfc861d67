"""The sheet eecs545-w20-hw4: layers and networks in NumPy."""

from pathlib import Path

from hw_check.eecs545.functions import FILES, FUNCTIONS
from hw_check.eecs545.grading import grade
from hw_check.rows import Sheet

SHEET = Sheet(
    name="eecs545-w20-hw4",
    files=FILES,
    points=sum(function.points for function in FUNCTIONS),
    elsewhere="12 more are for training (Q2c, Q3c, Q4d); a person reads Q1's derivations; Q5 is eecs545-w20-hw4-q5",
    runner="hw_check.eecs545.inside",
    grade=grade,
    example=Path(__file__).resolve().parents[2] / "hw_numpy",
)
