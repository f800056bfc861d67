"""`python -m hw_report serve`: the book in a browser, with boxes for trying trained networks."""
