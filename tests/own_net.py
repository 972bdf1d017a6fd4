"""A network as others write them, that knows nothing of this package."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Three convolutions, under a time and a class; a constant of each kind."""

    place: Tensor
    frequencies: Tensor

    def __init__(self, classes: int = 4, width: int = 32, channels: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.register_buffer("order", torch.arange(width))
        self.register_buffer("place", torch.linspace(-1, 1, 8))
        self.register_buffer("frequencies", 2.0 ** -torch.arange(8), persistent=False)
        self.time = nn.Linear(16, width)
        self.label = nn.Embedding(classes, width)
        self.into = nn.Conv2d(channels, width, 3, padding=1)
        # Another thing than the package means by the name.
        self.middle = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor, *, labels: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        context = self.time(features) + self.label(labels)
        hidden = self.into(x + self.place) * self.scale + context[:, :, None, None]
        return self.out(self.middle(hidden))


class Tall(Net):
    """One that makes images of another shape."""

    def forward(self, t: Tensor, x: Tensor, *, labels: Tensor) -> Tensor:
        return torch.cat([super().forward(t, x, labels=labels)] * 2, dim=2)


class Particular(Net):
    """Does what "meta" cannot: reads a value, and holds a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = torch.ones(1)

    def forward(self, t: Tensor, x: Tensor, *, labels: Tensor) -> Tensor:
        assert t.max().item() <= 1
        return super().forward(t, x * self.plain, labels=labels)
