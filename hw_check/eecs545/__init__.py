"""The grader for eecs545-w20-hw4."""
