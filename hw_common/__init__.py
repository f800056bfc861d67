"""Code that all homeworks share; it imports none of them."""
