"""Any family of networks through the stages."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowquant.config.evaluation import FidelityConfig, MetricsConfig
from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.network import TransformerConfig
from flowquant.config.refinement import RefineConfig
from flowquant.config.sampling import SamplingConfig
from flowquant.data.dataset import Part, Split, write_dataset
from flowquant.models import family
from flowquant.sampling.samples import read_samples
from flowquant.stages.quantize import quantize
from flowquant.stages.refine import refine
from flowquant.stages.sample import sample
from flowquant.stages.score import score
from flowquant.stages.train import train
from flowquant.training import flow_matching
from tiny import TINY_MODEL, TINY_NETWORKS, TRAINING
from updates import by_pytorch


class OneConvolution(nn.Module):
    """The smallest second family: what a network must be, and no more."""

    def __init__(
        self, config: TransformerConfig, image: ImageConfig, condition: ConditionConfig
    ) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(image.channels + 1, image.channels, 3, padding=1)
        self.shift = nn.Embedding(condition.count, image.channels)

    @property
    def middle(self) -> nn.Module:
        return self.kernel

    @property
    def embedders(self) -> tuple[nn.Module, ...]:
        return (self.shift,)

    def cast(self, dtype: torch.dtype) -> None:
        self.to(dtype)

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        clock = time.view(-1, 1, 1, 1).expand(len(x), 1, *x.shape[2:])
        shift = self.shift(condition)
        if kept is not None:
            shift = shift * kept[:, None]
        return self.kernel(torch.cat([x, clock], 1)) + shift[..., None, None]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same images for a test whichever ran before it."""
    torch.manual_seed(0)


@pytest.mark.parametrize("name", [name for name in family.FAMILIES if name != "transformer"])
def test_a_working_copy_in_bfloat16_learns_alike(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: float32 weights, a bfloat16 copy, one vector of both, gradients in bfloat16.

    But for the capture, and for AdamW's kernel, which a CPU would interpret for minutes.
    """
    monkeypatch.setattr(flow_matching.Training, "_adamw", by_pytorch)
    model = replace(TINY_MODEL, network=TINY_NETWORKS[name])
    split = Split(torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8), torch.arange(4) % 3)
    every, losses, judged = Part(split, torch.arange(4)), {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(flow_matching, "compute_dtype", lambda *_, found=dtype: found)
        training = flow_matching.Training(model, TRAINING, 0, torch.device("cpu"))
        before = training.validate(every)
        losses[dtype] = [training.step(split, every.rows, 10).item() for _ in range(5)]
        judged[dtype] = before, training.validate(every)
    exact, reduced = (torch.tensor(found) for found in losses.values())
    torch.testing.assert_close(reduced, exact, rtol=0.02, atol=0)
    (before, after), (_, reduced_after) = judged.values()
    assert after < before
    assert reduced_after == pytest.approx(after, abs=(before - after) / 10)


@pytest.mark.parametrize("name", ["unknown", *family.FAMILIES])
def test_nothing_after_the_network_knows_its_inside(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every family is trained, quantized, refined, sampled and looked into by the same stages."""
    section = TINY_NETWORKS["transformer" if name == "unknown" else name]
    if name == "unknown":
        monkeypatch.setitem(family.FAMILIES, "transformer", OneConvolution)
    model = replace(TINY_MODEL, network=section)
    splits = [
        Split(torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 3)
        for _ in range(2)
    ]
    data = tmp_path / "data.safetensors"
    write_dataset(data, splits[0], splits[1], model.image, model.condition, {})
    training = replace(TRAINING, epochs=1, batch=8, validation=8)
    trained, packed, refined = (tmp_path / f"{step}.safetensors" for step in "tqr")
    named = {"dataset": "x", "report": tmp_path / "report.json", "device": "cpu"}
    learning = {"curve": tmp_path / "curve.jsonl", "checkpoint": tmp_path / "c.pt"}
    train(data=data, output=trained, model=model, training=training, **named, **learning)  # type: ignore[arg-type]
    method = MethodConfig(
        levels="uniform", granularity="row", scope="matrices", keep=(), least_values=5
    )
    what = {"method": method, "variant": "u/4bit", "bits": 4}
    quantize(model=trained, output=packed, **what, **named)  # type: ignore[arg-type]
    settings = RefineConfig(steps=2, batch=4, assignments="trained")
    refine(
        model=trained,
        unrefined=packed,
        data=data,
        output=refined,
        variant="u/4bit",
        settings=settings,
        condition_dropout=0.5,
        **named,  # type: ignore[arg-type]
        **learning,  # type: ignore[arg-type]
    )
    sampling = SamplingConfig(solver="euler", steps=2, per_class=3, guidance=1.5)
    images = {}
    for variant, path, kept in (
        ("full", trained, False),
        ("u/4bit", refined, False),
        ("packed", refined, True),
    ):
        drawn = tmp_path / f"{variant[0]}.safetensors"
        sample(
            model=path,
            output=drawn,
            dataset="x",
            variant=variant,
            seed=0,
            sampling=sampling,
            packed=kept,
            device="cpu",
        )
        images[variant] = read_samples(drawn)[0].int()
    assert images["full"].shape == (9, 1, 8, 8)
    assert (images["packed"] - images["u/4bit"]).abs().max() <= 1
    looked = tmp_path / "scores.json"
    score(
        samples=tmp_path / "u.safetensors",
        output=looked,
        extractors=(),
        real=(),
        weights=(),
        metrics=MetricsConfig(),
        model=trained,
        quantized=refined,
        model_samples=tmp_path / "f.safetensors",
        fidelity=FidelityConfig(samples=3, steps=2),
    )
    report = json.loads(looked.read_text())["fidelity"]
    assert report["middle_layer"]["dimensions"] >= 1
    assert max(report["paths"]["velocity_error"]) < 1
