"""The floating-point operations of a velocity network: of its matrix products, 2·m·k·n each."""

from dataclasses import dataclass

from flowquant.config.model import ModelConfig

# The backward pass computes a product's gradients by its input and by its weight.
BACKWARD = 2


@dataclass(frozen=True)
class Product:
    """A product [rows, inner] × [inner, columns] that a forward pass does ``times`` times."""

    name: str
    rows: int
    inner: int
    columns: int
    times: int = 1

    @property
    def flops(self) -> int:
        """Operations of all ``times`` together."""
        return 2 * self.rows * self.inner * self.columns * self.times


def encoder_products(model: ModelConfig, images: int) -> tuple[Product, ...]:
    """The encoder's linear layers in a forward pass of ``images`` images."""
    network = model.network
    rows, width, layers = images * tokens(model), network.width, network.layers
    return (
        Product("qkv", rows, width, 3 * width, layers),
        Product("out", rows, width, width, layers),
        Product("linear1", rows, width, network.feedforward, layers),
        Product("linear2", rows, network.feedforward, width, layers),
    )


def tokens(model: ModelConfig) -> int:
    """Patches of an image."""
    return (model.image.size // model.network.patch) ** 2


def forward_flops(model: ModelConfig, images: int, times: int) -> int:
    """Operations of a forward pass of a batch; what is no matrix product is not counted.

    ``times`` in the batch: one for each image in training, one for all in sampling.
    """
    network, image = model.network, model.image
    n, width = tokens(model), network.width
    time_inputs = 1 if network.time == "linear" else 2 * width
    others = [
        Product("patches in and out", images * n, image.channels * network.patch**2, width, 2),
        Product("queries × keys, weights × values", images * n, width, n, 2 * network.layers),
        Product("time, first layer", times, time_inputs, width),
        Product("time, second layer", times, width, width),
    ]
    if network.condition == "linear":
        others.append(Product("condition", images, model.condition.count, width))
    return sum(product.flops for product in (*encoder_products(model, images), *others))


def step_flops(model: ModelConfig, batch: int) -> int:
    """Operations of a training step: the backward pass takes twice those of the forward pass."""
    return (1 + BACKWARD) * forward_flops(model, batch, batch)
