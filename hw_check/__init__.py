"""A grader for students' homework files: draws test cases, runs the files in separate processes, judges the answers."""
