"""The answers to every sheet: numbers and figures from one command, as a PDF and as a zip to turn in."""
