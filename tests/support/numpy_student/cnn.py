"""What a good student hands in for Q3."""

import numpy as np
from layers import (
    conv_backward,
    conv_forward,
    fc_backward,
    fc_forward,
    max_pool_backward,
    max_pool_forward,
    relu_backward,
    relu_forward,
    softmax_loss,
)


class ConvNet:
    def __init__(
        self,
        input_dim=(1, 28, 28),
        num_filters=32,
        filter_size=7,
        hidden_dim=100,
        num_classes=10,
        weight_scale=1e-3,
        dtype=np.float32,
    ):
        C, H, W = input_dim
        pooled = num_filters * ((H - filter_size + 1) // 2) * ((W - filter_size + 1) // 2)
        self.params = {}
        self.params["W1"] = weight_scale * np.random.randn(num_filters, C, filter_size, filter_size)
        self.params["W2"] = weight_scale * np.random.randn(pooled, hidden_dim)
        self.params["b2"] = np.zeros(hidden_dim)
        self.params["W3"] = weight_scale * np.random.randn(hidden_dim, num_classes)
        self.params["b3"] = np.zeros(num_classes)
        for name, value in self.params.items():
            self.params[name] = value.astype(dtype)

    def loss(self, X, y=None):
        p = self.params
        conv, conv_cache = conv_forward(X, p["W1"])
        active1, relu_cache1 = relu_forward(conv)
        pooled, pool_cache = max_pool_forward(active1, {"pool_height": 2, "pool_width": 2, "stride": 2})
        hidden, fc_cache1 = fc_forward(pooled.reshape(len(X), -1), p["W2"], p["b2"])
        active2, relu_cache2 = relu_forward(hidden)
        scores, fc_cache2 = fc_forward(active2, p["W3"], p["b3"])
        if y is None:
            return scores
        grads = {}
        loss, dscores = softmax_loss(scores, y)
        dactive2, grads["W3"], grads["b3"] = fc_backward(dscores, fc_cache2)
        dhidden = relu_backward(dactive2, relu_cache2)
        dpooled, grads["W2"], grads["b2"] = fc_backward(dhidden, fc_cache1)
        dactive1 = max_pool_backward(dpooled.reshape(pooled.shape), pool_cache)
        dconv = relu_backward(dactive1, relu_cache1)
        _, grads["W1"] = conv_backward(dconv, conv_cache)
        return loss, grads
