"""A grader for students' homework files: draws test cases, runs the files apart, judges the answers."""
