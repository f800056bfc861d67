"""The graders for networks in PyTorch: one module for each sheet, and what they share."""
