"""The convolutional network of eecs545-w20-hw4 Q3."""

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike

if __package__:  # the course's scripts import these files by bare names
    from . import layers
else:
    import layers

_POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


class ConvNet:
    """Convolution – ReLU – 2×2 max-pooling – fully connected – ReLU – fully connected – softmax.

    Args:
        input_dim: channels, height and width of the images.
        num_filters: number of filters of the convolution, which has neither padding nor bias.
        filter_size: height and width of a filter.
        hidden_dim: number of hidden units.
        num_classes: number of classes.
        weight_scale: standard deviation of the initial weights; the initial biases are zero.
        dtype: type of the parameters and of all results.
        seed: seed of the weights; None to draw it from NumPy's global generator, as in the course's scripts.

    Attributes:
        params: W1 (num_filters, C, filter_size, filter_size), W2 (pooled pixels, hidden_dim), b2,
            W3 (hidden_dim, num_classes), b3.

    Raises:
        ValueError: filters of this size leave nothing to pool.
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (1, 28, 28),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        channels, height, width = input_dim
        pooled_height, pooled_width = ((side - filter_size + 1) // 2 for side in (height, width))
        if min(pooled_height, pooled_width) < 1:
            raise ValueError(f"filters of {filter_size}×{filter_size} leave nothing to pool in {height}×{width} images")
        self.dtype = np.dtype(dtype)
        generator = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        shapes = {
            "W1": (num_filters, channels, filter_size, filter_size),
            "W2": (num_filters * pooled_height * pooled_width, hidden_dim),
            "W3": (hidden_dim, num_classes),
        }
        self.params = {name: (weight_scale * generator.standard_normal(s)).astype(dtype) for name, s in shapes.items()}
        self.params |= {"b2": np.zeros(hidden_dim, dtype), "b3": np.zeros(num_classes, dtype)}

    def loss(self, X: ndarray, y: ndarray | None = None) -> ndarray | tuple[float, dict[str, ndarray]]:
        """Scores of the classes, or loss and gradients.

        Args:
            X: (N, C, H, W) images.
            y: (N,) class numbers from 0; None to classify.

        Returns:
            Without y, the (N, num_classes) scores. With y, the loss and the gradients of all parameters by name.

        Raises:
            ValueError: the shapes do not fit, or a label is not a class.
        """
        W1, W2, b2, W3, b3 = (self.params[name] for name in ("W1", "W2", "b2", "W3", "b3"))
        maps, conv_cache = layers.conv_forward(X.astype(self.dtype, copy=False), W1)
        maps, relu1_cache = layers.relu_forward(maps)
        maps, pool_cache = layers.max_pool_forward(maps, _POOL)
        hidden, fc1_cache = layers.fc_forward(maps, W2, b2)
        hidden, relu2_cache = layers.relu_forward(hidden)
        scores, fc2_cache = layers.fc_forward(hidden, W3, b3)
        if y is None:
            return scores
        loss, dscores = layers.softmax_loss(scores, y)
        dhidden, dW3, db3 = layers.fc_backward(dscores, fc2_cache)
        dhidden = layers.relu_backward(dhidden, relu2_cache)
        dmaps, dW2, db2 = layers.fc_backward(dhidden, fc1_cache)
        dmaps = layers.max_pool_backward(dmaps, pool_cache)
        dmaps = layers.relu_backward(dmaps, relu1_cache)
        dW1 = layers.conv_backward_w(dmaps, conv_cache)  # the gradient of the images is not needed
        return loss, {"W1": dW1, "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}
