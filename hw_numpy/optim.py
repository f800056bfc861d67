"""Update rules (eecs545-w20-hw4). Imports only NumPy.

Each rule takes parameters `w`, their gradient `dw` of the same shape and a dictionary `config`, and returns the new
parameters and the config for the next step. `config` holds the settings, whose defaults are filled in, and the rule's
state; it is updated in place. `w` and `dw` are not changed.
"""

from typing import Any

import numpy as np
from numpy import ndarray

Config = dict[str, Any]


def sgd(w: ndarray, dw: ndarray, config: Config | None = None) -> tuple[ndarray, Config]:
    """Stochastic gradient descent.

    Args:
        w: parameters.
        dw: gradient of the parameters.
        config: setting `learning_rate` (0.01).

    Returns:
        The new parameters, and the config.
    """
    config, rate = _settings(config, learning_rate=1e-2)
    return w - rate * dw, config


def sgd_momentum(w: ndarray, dw: ndarray, config: Config | None = None) -> tuple[ndarray, Config]:
    """Stochastic gradient descent with momentum: v ← μ v − η dw, w ← w + v.

    Args:
        w: parameters.
        dw: gradient of the parameters.
        config: settings `learning_rate` η (0.01) and `momentum` μ (0.9); state `velocity` v.

    Returns:
        The new parameters, and the config.
    """
    config, rate, momentum = _settings(config, learning_rate=1e-2, momentum=0.9)
    velocity = config.get("velocity")
    velocity = config["velocity"] = -rate * dw if velocity is None else momentum * velocity - rate * dw
    return w + velocity, config


def rmsprop(w: ndarray, dw: ndarray, config: Config | None = None) -> tuple[ndarray, Config]:
    """RMSProp (Tieleman and Hinton, 2012): the gradient is divided by its running root mean square.

    Args:
        w: parameters.
        dw: gradient of the parameters.
        config: settings `learning_rate` (0.01), `decay_rate` (0.99), `epsilon` (1e-8); state `cache`, the mean square.

    Returns:
        The new parameters, and the config.
    """
    config, rate, decay, epsilon = _settings(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    cache = config["cache"] = _running_mean(config.get("cache"), dw**2, decay)
    return w - rate * dw / (np.sqrt(cache) + epsilon), config


def adam(w: ndarray, dw: ndarray, config: Config | None = None) -> tuple[ndarray, Config]:
    """Adam (Kingma and Ba, 2015), with bias correction.

    Args:
        w: parameters.
        dw: gradient of the parameters.
        config: settings `learning_rate` (0.001), `beta1` (0.9), `beta2` (0.999), `epsilon` (1e-8); state: the means `m`
            of the gradient and `v` of its square, and the number `t` of steps.

    Returns:
        The new parameters, and the config.
    """
    config, rate, beta1, beta2, epsilon = _settings(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8)
    t = config["t"] = config.get("t", 0) + 1
    m = config["m"] = _running_mean(config.get("m"), dw, beta1)
    v = config["v"] = _running_mean(config.get("v"), dw**2, beta2)
    unbiased_m, unbiased_v = m / (1 - beta1**t), v / (1 - beta2**t)
    return w - rate * unbiased_m / (np.sqrt(unbiased_v) + epsilon), config


def _settings(config: Config | None, **defaults: float) -> tuple[Any, ...]:
    """Fills `defaults` into `config`; returns it, and its values for the names in `defaults`.

    The values become Python floats, because NumPy's float64 would turn single-precision parameters into double.
    """
    config = {} if config is None else config
    return config, *(float(config.setdefault(name, value)) for name, value in defaults.items())


def _running_mean(mean: ndarray | None, value: ndarray, decay: float) -> ndarray:
    """Decay · mean + (1 − decay) · value; the first mean is zero."""
    return (1 - decay) * value if mean is None else decay * mean + (1 - decay) * value
