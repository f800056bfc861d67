"""Transfer learning with a ResNet-18: eecs545-w20-hw4 Question 5."""
