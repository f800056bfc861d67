"""Neural networks in NumPy with hand-written gradients: the homework eecs545-w20-hw4, except its transfer learning."""
