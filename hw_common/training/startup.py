"""Makes training commands start faster."""

import functools
import inspect
import sys
from types import ModuleType
from typing import Any

import torch
from torch.optim import Optimizer


@functools.cache
def skip_compiler() -> None:
    """Lets torch's optimizers work without torch._dynamo, whose import takes more than a second.

    They import it only to exclude themselves from torch.compile, which our commands do not use: each method below is
    replaced by what it does outside of torch.compile.
    """
    kinds: Any = [kind for kind in vars(torch.optim).values() if isinstance(kind, type) and kind is not Optimizer]
    for method in (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict):
        plain: Any = inspect.unwrap(method)
        plain.__dynamo_disable = plain  # torch calls the value of this attribute instead of the method
    for kind in kinds:
        kind.step = torch.no_grad()(inspect.unwrap(kind.step))


@functools.cache
def import_torchvision() -> None:
    """Imports torchvision without torch._dynamo, whose import takes more than a second.

    torchvision imports it only to ask whether its function roi_align can be compiled, which our commands do not use.
    """
    module = "torch._dynamo.utils"
    if module not in sys.modules:
        stand_in: Any = ModuleType(module)
        stand_in.is_compile_supported = lambda device_type: False
        sys.modules[module] = stand_in
        import torchvision  # noqa: F401

        del sys.modules[module]
