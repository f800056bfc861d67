"""Image classification with CNNs: ist-2021-22-hw2 Q2, ist-2023-24-hw2 Q2, convnets-2024-a2."""
