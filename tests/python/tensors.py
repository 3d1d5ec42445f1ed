"""What NumPy code sees of PyTorch's tensors, for tests that run without it."""

import numpy as np


class Tensor:
    """An array whose ``size`` is a method, whose elements are tensors, and which is refused if it needs gradients."""

    def __init__(self, values, requires_grad=False):
        self._values = np.asarray(values)
        self.requires_grad = requires_grad
        self.shape = self._values.shape
        self.dtype = f"torch.{self._values.dtype}"

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return np.array(self._values, dtype=dtype)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (Tensor(value) for value in self._values)

    def size(self):
        return self.shape

    def item(self):
        return self._values.item()

    def __str__(self):
        return f"tensor({self._values})"
