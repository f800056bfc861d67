"""The two-layer network of eecs545-w20-hw4 Q2."""

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike

if __package__:  # the course's scripts import these files by bare names
    from . import layers
else:
    import layers


class SoftmaxClassifier:
    """Fully connected – ReLU – fully connected – softmax.

    Args:
        input_dim: number of features of a sample.
        hidden_dim: number of hidden units.
        num_classes: number of classes.
        weight_scale: standard deviation of the initial weights; the initial biases are zero.
        dtype: type of the parameters and of all results. The default is double precision, because the course's scripts
            check the gradients by finite differences; training is twice as fast in single precision.
        seed: seed of the weights; None to draw it from NumPy's global generator, as in the course's scripts.

    Attributes:
        params: W1 (input_dim, hidden_dim), b1, W2 (hidden_dim, num_classes), b2.
    """

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        dtype: DTypeLike = np.float64,
        seed: int | None = None,
    ) -> None:
        self.dtype = np.dtype(dtype)
        generator = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        self.params = {
            "W1": (weight_scale * generator.standard_normal((input_dim, hidden_dim))).astype(dtype),
            "b1": np.zeros(hidden_dim, dtype),
            "W2": (weight_scale * generator.standard_normal((hidden_dim, num_classes))).astype(dtype),
            "b2": np.zeros(num_classes, dtype),
        }

    def loss(self, X: ndarray, y: ndarray | None = None) -> ndarray | tuple[float, dict[str, ndarray]]:
        """Scores of the classes, or loss and gradients.

        Args:
            X: (N, input_dim) samples; any other shape with as many features is possible, such as (N, 1, 28, 28).
            y: (N,) class numbers from 0; None to classify.

        Returns:
            Without y, the (N, num_classes) scores. With y, the loss and the gradients of all parameters by name.

        Raises:
            ValueError: the shapes do not fit, or a label is not a class.
        """
        W1, b1, W2, b2 = (self.params[name] for name in ("W1", "b1", "W2", "b2"))
        hidden, fc1_cache = layers.fc_forward(X.astype(self.dtype, copy=False), W1, b1)
        hidden, relu_cache = layers.relu_forward(hidden)
        scores, fc2_cache = layers.fc_forward(hidden, W2, b2)
        if y is None:
            return scores
        loss, dscores = layers.softmax_loss(scores, y)
        dhidden, dW2, db2 = layers.fc_backward(dscores, fc2_cache)
        dhidden = layers.relu_backward(dhidden, relu_cache)
        _, dW1, db1 = layers.fc_backward(dhidden, fc1_cache)
        return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
