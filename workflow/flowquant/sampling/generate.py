"""Images from a network: which labels, and batches that fit the memory."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.model import ConditionConfig, FlowConfig, ModelConfig
from flowquant.config.sampling import Condition, SolverConfig
from flowquant.data.dataset import check_labels, read_dataset
from flowquant.data.pixels import to_uint8
from flowquant.models.path import initial_noise
from flowquant.runtime.errors import UserError
from flowquant.sampling.sampler import Sampler


def asked_for(condition: ConditionConfig, per_class: int) -> Tensor:
    """What to sample: ``per_class`` of each class, class by class, int64 [N].

    With attributes: as many as of ten classes, with all attributes 0, uint8 [N, A].
    """
    if condition.kind == "attributes":
        return torch.zeros(condition.labels * per_class, condition.count, dtype=torch.uint8)
    return torch.arange(condition.count).repeat_interleave(per_class)


def labels_to_sample(
    condition: ConditionConfig, per_class: int, attributes: Condition, data: Path | None
) -> Tensor:
    """What to sample: as `asked_for`, or with attributes those of the first test images.

    Raises:
        UserError: if there is no dataset file, or its attributes are others or too few.
    """
    labels = asked_for(condition, per_class)
    if attributes == "zeros":
        return labels
    count, labels = len(labels), torch.empty(0)
    if data is not None:
        labels = read_dataset(data)[1].labels
        check_labels(data, labels, condition)
    if len(labels) < count:
        raise UserError(
            data or "--data",
            found=f"{len(labels)} test images to take attributes from",
            expected=f"at least {count}, ten times `sampling.per_class`",
            remedy="Sample fewer, or set `sampling.condition: zeros`.",
        )
    return labels[:count]


def start_digest(config: ModelConfig, labels: Tensor, seed: int) -> str:
    """A digest of what samples begin with: labels, and noise, whose first and last rows tell it."""
    shape = (config.image.channels, config.image.size, config.image.size)
    rows = range(0, len(labels), max(len(labels) - 1, 1))
    noise = initial_noise(config.flow, seed, rows, shape)
    return blake2b(noise.numpy().tobytes() + labels.numpy().tobytes(), digest_size=16).hexdigest()


def generate(
    network: nn.Module,
    config: ModelConfig,
    labels: Tensor,
    solver: SolverConfig,
    seed: int,
    batch: int,
    device: torch.device,
    first: int = 0,
) -> tuple[Tensor, float]:
    """Images uint8 [N, C, H, W] for labels [N] or attributes [N, A].

    Image i depends on the seed, i and its label; ``batch`` changes nothing but rounding, or with
    ``dopri5``, which chooses its steps for a whole batch, images within the tolerance. A batch that
    the GPU's memory does not hold is halved. ``first`` is the index of the first image, where these
    are a shard; only the shard that begins at 0 shows a bar.

    Returns:
        The images, and how often the velocity was evaluated for each, on average.

    Raises:
        UserError: if pixels are not finite, or the memory does not hold one image.
    """
    shape = (config.image.channels, config.image.size, config.image.size)
    flow = config.flow
    return integrate(network, flow, shape, labels, solver, seed, batch, device, first, to_uint8)


def integrate(
    network: nn.Module,
    flow: FlowConfig,
    shape: tuple[int, ...],
    labels: Tensor,
    solver: SolverConfig,
    seed: int,
    batch: int,
    device: torch.device,
    first: int = 0,
    finish: Callable[[Tensor], Tensor] = lambda ends: ends,
) -> tuple[Tensor, float]:
    """As `generate`, for any network and ``shape`` of a state: what ``finish`` makes of the ends.

    The network is called as `VelocityNetwork` says.
    """
    sampler = Sampler(network, flow, solver, device)
    images: list[Tensor] = []
    done, evaluations, batch = 0, 0, min(batch, len(labels))
    ahead: Tensor | None = None
    # On a GPU all batches have one size, so that one captured step serves all: the last is filled
    # up with images that are thrown away.
    alike = device.type == "cuda"
    with tqdm(total=len(labels), desc="sampling", unit="image", disable=first > 0) as bar:
        while done < len(labels):
            wanted = labels[done : done + batch]
            spare = batch - len(wanted) if alike else 0
            filled = torch.cat([wanted, wanted[:1].expand(spare, *wanted.shape[1:])])
            rows = range(first + done, first + done + len(filled))
            noise = initial_noise(flow, seed, rows, shape) if ahead is None else ahead
            ahead = None
            try:
                sampled = sampler(noise, filled)
                if rest := len(labels) - done - len(wanted):
                    # The next batch's, while a GPU computes.
                    rows = range(rows.stop, rows.stop + (batch if alike else min(batch, rest)))
                    ahead = initial_noise(flow, seed, rows, shape)
                sampler.warn()
                if not bool(sampled.isfinite().all()):
                    raise UserError(
                        "sampling",
                        found="NaN or infinite pixels",
                        expected="finite ones",
                        remedy="Use a smaller `sampling.guidance`, more steps, or another model.",
                    )
                images.append(finish(sampled[: len(wanted)]).cpu())
            except torch.OutOfMemoryError as error:
                if batch == 1:
                    raise UserError(
                        "GPU memory",
                        found=f"too little for one image ({error})",
                        expected="room for the network and its activations",
                        remedy="Free the GPU, or set `device: cpu`.",
                    ) from error
                batch, ahead = -(-batch // 2), None
                bar.write(f"out of memory: resuming with batches of {batch}")
                torch.cuda.empty_cache()
                continue
            evaluations += sampler.evaluations * len(wanted)
            done += len(wanted)
            bar.update(len(wanted))
    return torch.cat(images), evaluations / len(labels)
