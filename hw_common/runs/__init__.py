"""Runs: the run folder, files that are written whole, checkpoints, figures, errors."""
