"""Networks whose gradients are written by hand, in NumPy: all of eecs545-w20-hw4 but its transfer learning."""
