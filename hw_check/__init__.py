"""What `python -m hw_check` does: draws cases, runs a student's files apart, judges what they return."""
