"""What a good student hands in for Q2."""

import numpy as np
from layers import fc_backward, fc_forward, relu_backward, relu_forward, softmax_loss


class SoftmaxClassifier:
    def __init__(self, input_dim=784, hidden_dim=100, num_classes=10, weight_scale=1e-3):
        self.params = {}
        self.params["W1"] = weight_scale * np.random.randn(input_dim, hidden_dim)
        self.params["b1"] = np.zeros(hidden_dim)
        self.params["W2"] = weight_scale * np.random.randn(hidden_dim, num_classes)
        self.params["b2"] = np.zeros(num_classes)

    def loss(self, X, y=None):
        hidden, cache1 = fc_forward(X, self.params["W1"], self.params["b1"])
        active, relu_cache = relu_forward(hidden)
        scores, cache2 = fc_forward(active, self.params["W2"], self.params["b2"])
        if y is None:
            return scores
        grads = {}
        loss, dscores = softmax_loss(scores, y)
        dactive, grads["W2"], grads["b2"] = fc_backward(dscores, cache2)
        dhidden = relu_backward(dactive, relu_cache)
        _, grads["W1"], grads["b1"] = fc_backward(dhidden, cache1)
        return loss, grads
