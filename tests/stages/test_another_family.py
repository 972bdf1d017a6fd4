"""A second family of networks through the stages."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig, ImageConfig, ModelConfig, NetworkConfig
from flowquant.config.sampling import SamplingConfig
from flowquant.data.dataset import Split, write_dataset
from flowquant.models import transformer as network
from flowquant.sampling.samples import read_samples
from flowquant.stages.quantize import quantize
from flowquant.stages.sample import sample
from flowquant.stages.train import train
from tiny import TRAINING


class OneConvolution(nn.Module):
    """The smallest second family: what a network must be, and no more."""

    def __init__(
        self, config: NetworkConfig, image: ImageConfig, condition: ConditionConfig
    ) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(image.channels + 1, image.channels, 3, padding=1)
        self.shift = nn.Embedding(condition.count, image.channels)

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        clock = time.view(-1, 1, 1, 1).expand(len(x), 1, *x.shape[2:])
        shift = self.shift(condition)
        if keep is not None:
            shift = shift * keep[:, None]
        return self.kernel(torch.cat([x, clock], 1)) + shift[..., None, None]


def test_nothing_after_the_network_knows_its_inside(
    tmp_path: Path, tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another family is trained, quantized and sampled by the same stages."""
    monkeypatch.setitem(network.FAMILIES, "transformer", OneConvolution)
    model = tiny_model
    splits = [
        Split(torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 3)
        for _ in range(2)
    ]
    data = tmp_path / "data.safetensors"
    write_dataset(data, splits[0], splits[1], model.image, model.condition, {})
    training = replace(TRAINING, epochs=1, batch=8, validation=8)
    trained, packed, drawn = (tmp_path / f"{name}.safetensors" for name in "tqs")
    report, curve = tmp_path / "report.json", tmp_path / "curve.jsonl"
    train(
        data=data,
        output=trained,
        report=report,
        curve=curve,
        checkpoint=tmp_path / "c.pt",
        dataset="x",
        model=model,
        training=training,
        device="cpu",
    )
    method = MethodConfig(
        levels="uniform", granularity="row", scope="linear", keep=(), least_values=5
    )
    quantize(
        model=trained,
        output=packed,
        report=report,
        method=method,
        dataset="x",
        variant="uniform/4bit",
        bits=4,
        device="cpu",
    )
    sampling = SamplingConfig(solver="euler", steps=2, per_class=2, guidance=1.5)
    sample(
        model=packed,
        output=drawn,
        grid=tmp_path / "s.png",
        dataset="x",
        variant="u",
        seed=0,
        sampling=sampling,
        device="cpu",
    )
    assert read_samples(drawn)[0].shape == (6, 1, 8, 8)
