"""Facts about this homework that its commands need before NumPy is imported."""

HOMEWORK = "hw_numpy"
