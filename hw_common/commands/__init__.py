"""Command lines: flags, the training command, several training runs side by side, comparisons."""
