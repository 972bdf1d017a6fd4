"""The gradient of many weights as one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowquant.training.optimization import views


class Gradient:
    """The weights' gradients side by side, each in the order in memory of its weight.

    Args:
        weights: In the order of their gradients.
        vector: Where these lie; zeros at first.
    """

    def __init__(self, weights: Sequence[Tensor], vector: Tensor) -> None:
        self.vector = vector
        self._places = dict(zip(weights, views(vector, weights), strict=True))
        self._written: dict[Tensor, Tensor] = {}

    def let_write(self, places: dict[Tensor, Tensor]) -> None:
        """Give weights their places in the vector; what is written there need not be gathered.

        Written it is in every backward pass, or in none.
        """
        places.update(self._places)
        self._written = places

    @torch.no_grad()
    def gather(self) -> None:
        """Bring here what autograd accumulated; zeros where the loss does not depend on a weight.

        Together: weight by weight, copying took 6 to 9 % of a step on an H200.
        """
        gradients = [weight.grad for weight in self._places if weight.grad is not None]
        if gradients and len(gradients) == len(self._places):
            pairs = zip(self._places, gradients, strict=True)
            laid = [gradient.permute(weight.dim_order()) for weight, gradient in pairs]
            torch.cat([gradient.flatten() for gradient in laid], out=self.vector)
            return
        for weight, place in self._places.items():
            if weight.grad is None and weight not in self._written:
                place.zero_()
        if gradients:
            places = [place for weight, place in self._places.items() if weight.grad is not None]
            torch._foreach_copy_(places, gradients)
