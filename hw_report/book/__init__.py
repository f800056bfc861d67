"""The book: the five sheets as pages for a browser, from the same typst sources as the PDFs."""
