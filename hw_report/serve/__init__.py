"""`python -m hw_report serve`: the book in a browser, and what trained runs can do."""
