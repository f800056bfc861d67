"""Neural networks in NumPy with hand-written gradients: eecs545-w20-hw4 without its transfer learning."""
