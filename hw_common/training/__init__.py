"""Training: the one loop, experiments, batches, determinism, processes, precision."""
