"""The index of all answers, and the reports: the PDF of every sheet and the zip to turn in."""
