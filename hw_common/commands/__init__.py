"""Command lines: flags, the training command, several trainings side by side, comparisons."""
