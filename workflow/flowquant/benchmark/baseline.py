"""The baseline: how published code does the work that this project is measured on.

Eager float32 modules, a `DataLoader` that transforms image by image, a loss read every step, one
image sampled at a time, NumPy on whole sorted tensors. Written here for comparison, from the
published descriptions; it does the same work with the same results.
"""

from collections.abc import Mapping
from itertools import chain, repeat

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from flowquant.config.model import FlowConfig, ModelConfig
from flowquant.config.network import TransformerConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split
from flowquant.data.tensor_stream import Array
from flowquant.models.model import build_network


def baseline_network(model: ModelConfig) -> nn.Module:
    """The model's network in float32 and full precision throughout.

    A transformer's encoder is PyTorch's own, as published; other families' modules are theirs.
    """
    torch.set_float32_matmul_precision("highest")
    config = model.network
    network = build_network(model)
    if not isinstance(config, TransformerConfig):
        return network
    layer = nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        config.feedforward,
        config.dropout,
        activation=config.activation,
        batch_first=True,
    )
    network.transformer = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
    return network


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Images one by one, from PIL to float32 [C, H, W] in −1…1, and their labels."""

    def __init__(self, split: Split) -> None:
        pixels = split.images.permute(0, 2, 3, 1).numpy()
        if pixels.shape[-1] == 1:
            pixels = pixels.squeeze(-1)
        self.pictures = [Image.fromarray(one) for one in pixels]
        self.labels = split.labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(np.array(self.pictures[index]))
        image = pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
        return image.float().div(255).sub(0.5).div(0.5), self.labels[index]


class BaselineTraining:
    """Training steps on the device, over shuffled batches of a split again and again."""

    def __init__(
        self, model: ModelConfig, config: TrainingConfig, split: Split, device: torch.device
    ) -> None:
        self.flow, self.clip, self.device = model.flow, config.clip, device
        self.network = baseline_network(model).to(device).train()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        loader = DataLoader(Pictures(split), config.batch, shuffle=True, drop_last=True)
        self.batches = chain.from_iterable(repeat(loader))

    def step(self) -> float:
        """One step of AdamW; its loss."""
        images, labels = (part.to(self.device) for part in next(self.batches))
        noise = torch.randn_like(images) * self.flow.sigma
        t = torch.rand(len(images), device=self.device)
        share = t[:, None, None, None]
        x_t = (1 - share) * noise + share * images
        time = t if self.flow.clock == "forward" else 1 - t
        loss = F.mse_loss(self.network(x_t, time, labels), images - noise)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        return loss.item()


@torch.no_grad()
def sample_one(
    network: nn.Module,
    flow: FlowConfig,
    noise: Tensor,
    condition: Tensor,
    steps: int,
    taken: int | None = None,
) -> Tensor:
    """One image [1, C, H, W] in −1…1 from noise, by ``steps`` steps of Euler's method.

    The condition is a class [1] or attributes [1, A]. Only the first ``taken`` steps are taken, if
    that is given.
    """
    x = noise
    for step in range(steps if taken is None else taken):
        t = step / steps
        time = torch.full((1,), t if flow.clock == "forward" else 1 - t, device=x.device)
        x = x + network(x, time, condition) / steps
    return x.clamp(-1, 1)


def quantize_by_ranks(values: Array, count: int) -> Array:
    """The equal-mass level of each value [n], of ``count`` levels, by a double argsort."""
    count = min(count, len(values))
    order = np.argsort(values)
    ranks = np.argsort(order)
    chunks = np.array_split(values[order], count)
    means = np.array([chunk.mean() for chunk in chunks])
    ends = np.cumsum([len(chunk) for chunk in chunks])
    return means[np.searchsorted(ends, ranks, side="right")]


def quantize_all_by_ranks(weights: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """`quantize_by_ranks` of each tensor as a whole, back in its shape; on the CPU."""
    return {
        name: torch.from_numpy(quantize_by_ranks(tensor.numpy().ravel(), 2**bits)).view_as(tensor)
        for name, tensor in weights.items()
    }


@torch.no_grad()
def features_of_one(extractor: nn.Module, image: Tensor, device: torch.device) -> Tensor:
    """Features [1, F] on the CPU of one image uint8 [C, H, W] by a torch-fidelity extractor."""
    features: Tensor = extractor(image.expand(3, -1, -1)[None].to(device))[0]
    return features.cpu()
