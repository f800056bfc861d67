"""What every homework shares; knows no homework."""
