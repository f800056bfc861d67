"""ist-2021-22-hw2 Question 3: captions for aerial images, with and without attention."""
