"""What the measurements share: model, device and budget, and on which machine they ran."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowquant.benchmark.ceiling import E4M3, shapes_ceiling
from flowquant.benchmark.flops import large_products
from flowquant.config.model import ModelConfig
from flowquant.data.dataset import Split
from flowquant.models.model import build_network
from flowquant.runtime import random

# Share of the budget for each measurement of a ceiling.
CEILING = 0.04
# On a CPU, what is timed is chosen so that it fits into its budget this many times: to warm up, and
# for a median of three.
RUNS = 4
# Networks take longer than their products by themselves.
SLACK = 2


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        model: Whose network is measured.
        device: Where it computes.
        seed: Of weights, images and noise.
        seconds: Budget of all measurements together.
        matrix: What `matrix_ceiling` returned.
    """

    model: ModelConfig
    device: torch.device
    seed: int
    seconds: float
    matrix: dict[str, Any]

    def affordable(self, flops: int, share: float) -> int:
        """How many times work of so many operations fits into one run, at least 1.

        On a CPU within a share of the budget, on a GPU in half of it, so that the work is whole.
        """
        on_cpu = self.device.type == "cpu"
        run = self.seconds * (share / RUNS if on_cpu else 0.5)
        return max(1, int(run * self.matrix["tflops"] * 1e12 / SLACK / flops))

    def own_shapes(self, images: int, dtype: torch.dtype | None = None) -> dict[str, Any]:
        """The ceiling of the network's products in a batch, by default in the matrices' type."""
        dtype, budget = dtype or getattr(torch, self.matrix["dtype"]), CEILING * self.seconds
        found = large_products(self.model, images)
        if dtype == E4M3:
            found = tuple(p for p in found if p.inner % 16 == 0 and p.columns % 16 == 0)
        return {"images": images} | shapes_ceiling(found, dtype, self.device, budget)

    def weights(self) -> dict[str, Tensor]:
        """Random weights of the model's network, the same each time, on the CPU."""
        torch.manual_seed(random.key(self.seed, "benchmark weights"))
        state = build_network(self.model).state_dict()
        return {name: tensor.detach() for name, tensor in state.items()}

    def random_split(self, count: int) -> Split:
        """Images uint8 [count, C, H, W] and labels as the model's, random, on the CPU."""
        draws = random.generator(self.seed, "benchmark images")
        image, condition = self.model.image, self.model.condition
        shape = (count, image.channels, image.size, image.size)
        images = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
        if condition.kind == "attributes":
            shape_of = (count, condition.count)
            return Split(images, torch.randint(2, shape_of, generator=draws, dtype=torch.uint8))
        return Split(images, torch.randint(condition.count, (count,), generator=draws))


def machine(device: torch.device) -> dict[str, Any]:
    """What a report says of the machine that it was measured on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
