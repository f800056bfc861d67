"""Written questions, checked by computing: ist-2021-22-hw2 Q1 and ist-2023-24-hw2 Q1."""
