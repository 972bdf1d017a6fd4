"""The presets' networks against the published ones, both clocks, guidance, and other families."""

from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from flowquant.config.model import ConditionConfig, FlowConfig, ModelConfig
from flowquant.config.reading import check, merged, read_yaml
from flowquant.config.run import Run
from flowquant.config.sampling import SamplingConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split, write_dataset
from flowquant.models import transformer as network
from flowquant.models.model import build_network, empty_network
from flowquant.models.path import guided_velocity, velocity
from flowquant.models.solver import solve
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import read_samples
from flowquant.stages.quantize import MethodConfig, quantize
from flowquant.stages.sample import sample
from flowquant.stages.train import train
from project import ROOT

PAPER = ("mnist", "fmnist", "cifar10", "celeba")


def configuration() -> dict[str, Any]:
    datasets, paper = (read_yaml(ROOT / f"config/{name}.yaml") for name in ("datasets", "config"))
    return merged(datasets, paper)


def model_of(name: str) -> ModelConfig:
    return check(configuration()).presets[name].model


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mnist", 21_865_872),
        ("fmnist", 21_865_872),
        ("cifar10", 58_606_896),
        ("cifar10_jpeg", 58_606_896),
        ("celeba", 58_851_264),
    ],
)
def test_parameters(name, count):
    assert sum(p.numel() for p in empty_network(model_of(name)).parameters()) == count


def published(tokens, patch_values, condition, attributes):
    """Names and shapes of the cifar10 and celeba checkpoints."""
    width, hidden = 768, 3072
    layer = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "self_attn.out_proj.bias": (width,),
        "linear1.weight": (hidden, width),
        "linear1.bias": (hidden,),
        "linear2.weight": (width, hidden),
        "linear2.bias": (width,),
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
    }
    return {
        "pos_emb": (1, tokens, width),
        "patch_proj.weight": (width, patch_values),
        "patch_proj.bias": (width,),
        "out_proj.weight": (patch_values, width),
        "out_proj.bias": (patch_values,),
        f"{condition}.weight": (width, attributes),
        f"{condition}.bias": (width,),
        "time_mlp.0.W": (width,),
        "time_mlp.1.weight": (width, 2 * width),
        "time_mlp.1.bias": (width,),
        "time_mlp.3.weight": (width, width),
        "time_mlp.3.bias": (width,),
    } | {f"transformer.layers.{i}.{name}": shape for i in range(8) for name, shape in layer.items()}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cifar10", published(64, 48, "attr_emb", 10)),
        ("celeba", published(64, 192, "attr_emb", 40)),
    ],
)
def test_names_and_shapes(name, wanted):
    state = empty_network(model_of(name)).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == wanted


@pytest.mark.parametrize("name", PAPER)
def test_forward_pass_is_finite(name):
    model = model_of(name)
    torch.manual_seed(0)
    found = build_network(model).eval()
    x = torch.randn(2, model.image.channels, model.image.size, model.image.size)
    condition = torch.tensor([0, 9])
    if model.condition.kind == "attributes":
        condition = torch.randint(2, (2, model.condition.count), dtype=torch.uint8)
    with torch.no_grad():
        out = velocity(found, model.flow, x, torch.tensor([0.0, 0.7]), condition)
    assert out.shape == x.shape
    assert out.isfinite().all()


class Renamed(nn.Module):
    """The same velocity field, told the time of the other clock."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, time, condition, keep=None):
        return self.inner(x, 1 - time, condition, keep)


def integrate(net, flow, noise, labels, steps):
    with torch.no_grad():
        return solve(lambda x, t: velocity(net, flow, x, t, labels), noise, "euler", steps)[0]


def test_both_clocks_give_the_same_trajectory(tiny_model):
    torch.manual_seed(0)
    inner = build_network(tiny_model).eval()
    noise, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    forward = integrate(inner, FlowConfig(clock="forward", sigma=0.5), noise, labels, 16)
    backward = integrate(Renamed(inner), FlowConfig(clock="backward", sigma=0.5), noise, labels, 16)
    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=1e-5)
    other = integrate(inner, FlowConfig(clock="backward", sigma=0.5), noise, labels, 16)
    assert not torch.allclose(forward, other, atol=1e-3)


@pytest.mark.parametrize("kind", ["embedding", "linear", "attributes"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance(tiny_model, kind, scale):
    """Against the definition, from one evaluation with and one without the condition."""
    labels = torch.tensor([0, 2])
    if kind != "embedding":
        tiny_model = replace(tiny_model, network=replace(tiny_model.network, condition="linear"))
    if kind == "attributes":
        tiny_model = replace(tiny_model, condition=ConditionConfig(kind="attributes", count=5))
        labels = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.uint8)
    torch.manual_seed(0)
    net = build_network(tiny_model).eval()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.8])
    with torch.no_grad():
        told = velocity(net, tiny_model.flow, x, t, labels)
        untold = velocity(net, tiny_model.flow, x, t, labels, torch.zeros(2))
        found = guided_velocity(net, tiny_model.flow, x, t, labels, scale)
    assert not torch.allclose(told, untold)
    torch.testing.assert_close(found, untold + scale * (told - untold), atol=1e-5, rtol=1e-4)


def test_no_guidance_costs_one_evaluation(tiny_model):
    calls = []
    net = build_network(tiny_model).eval()
    net.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    x, t, labels = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.tensor([0, 1])
    for scale in (1.0, 2.0):
        guided_velocity(net, tiny_model.flow, x, t, labels, scale)
    assert calls == [2, 4]


@pytest.mark.parametrize(
    ("preset", "change", "key"),
    [
        ("mnist", {"sampling": {"guidance": 2}}, "sampling.guidance"),
        ("mnist", {"sampling": {"condition": "test"}}, "sampling.condition"),
        ("cifar10_jpeg", {"source": {"layout": {"test": None}}}, "source.layout.test"),
    ],
)
def test_impossible_settings(preset, change, key):
    config = configuration() | {"datasets": [preset]}
    for part, values in change.items():
        config["presets"][preset][part] = config["presets"][preset][part] | values
    with pytest.raises(UserError, match=f"`presets.{preset}.{key}`"):
        check(config)


def test_smallest_image_defaults_to_the_patch() -> None:
    names = {"cifar10_jpeg": 4, "imagenet64": 8}
    run = Run.read(configuration() | {"datasets": list(names)}, ROOT, [])
    for name, patch in names.items():
        words = run.source_options(SimpleNamespace(dataset=name))
        assert f"--source.least-side={patch}" in words


class OneConvolution(nn.Module):
    """The smallest second family: what a network must be, and no more."""

    def __init__(self, config, image, condition):
        super().__init__()
        self.kernel = nn.Conv2d(image.channels + 1, image.channels, 3, padding=1)
        self.shift = nn.Embedding(condition.count, image.channels)

    def forward(self, x, time, condition, keep=None):
        clock = time.view(-1, 1, 1, 1).expand(len(x), 1, *x.shape[2:])
        shift = self.shift(condition)
        if keep is not None:
            shift = shift * keep[:, None]
        return self.kernel(torch.cat([x, clock], 1)) + shift[..., None, None]


def test_nothing_after_the_network_knows_its_inside(tmp_path, tiny_model, monkeypatch):
    """Another family is trained, quantized and sampled by the same stages."""
    monkeypatch.setitem(network.FAMILIES, "transformer", OneConvolution)
    model = tiny_model
    splits = [
        Split(torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 3)
        for _ in range(2)
    ]
    data = tmp_path / "data.safetensors"
    write_dataset(data, *splits, model.image, model.condition, {})
    training = training_of(
        batch=8, schedule="cosine", clip=1.0, validation=8, condition_dropout=0.1
    )
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


def training_of(**settings):
    common = TrainingConfig(
        epochs=1,
        batch=4,
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule="plateau",
        warmup_epochs=0.0,
        halve_after=3,
        stop_after=10,
        clip=None,
        validation=4,
        condition_dropout=0.0,
        ema=None,
        precision="float32",
    )
    return replace(common, **settings)


def with_attributes(tmp_path, model, count=12, validation=5):
    """A dataset of attributes with a validation split of its own, and the model for it."""
    from flowquant.runtime.tensors import write_tensors

    torch.manual_seed(1)
    tensors = {}
    for part, n in (("train", count), ("validation", validation), ("test", count)):
        if n:
            tensors[f"{part}_images"] = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8)
            tensors[f"{part}_labels"] = torch.randint(2, (n, 5), dtype=torch.uint8)
    data = tmp_path / "data.safetensors"
    write_tensors(data, tensors, {})
    model = replace(
        model,
        condition=ConditionConfig(kind="attributes", count=5),
        network=replace(model.network, condition="linear", time="fourier"),
    )
    return data, tensors, model


def run_training(tmp_path, data, model, training):
    paths = [tmp_path / name for name in ("m.safetensors", "r.json", "c.jsonl", "c.pt")]
    train(data, *paths, "x", model, training, device="cpu")
    return paths[0]


def test_validation_on_the_datasets_own_split(tmp_path, tiny_model, monkeypatch):
    data, tensors, model = with_attributes(tmp_path, tiny_model)
    seen = []
    monkeypatch.setattr(
        "flowquant.stages.train.Training.validate",
        lambda _, part: seen.append(part.split.images[part.rows]) or 1.0,
    )
    run_training(tmp_path, data, model, training_of(validation=None))
    assert torch.equal(seen[0], tensors["validation_images"])
    run_training(tmp_path, data, model, training_of(validation=3))
    everything = tensors["train_images"].flatten(1).tolist()
    assert len(seen[1]) == 3
    assert all(row in everything for row in seen[1].flatten(1).tolist())


def test_no_validation_split_where_one_is_wanted(tmp_path, tiny_model):
    data, _, model = with_attributes(tmp_path, tiny_model, validation=0)
    with pytest.raises(UserError, match=r"training.validation: found null for .* has no validat"):
        run_training(tmp_path, data, model, training_of(validation=None))


def test_sampling_with_the_attributes_of_the_test_images(tmp_path, tiny_model):
    data, tensors, model = with_attributes(tmp_path, tiny_model)
    trained = run_training(tmp_path, data, model, training_of(validation=None))
    drawn, grid = tmp_path / "s.safetensors", tmp_path / "s.png"
    for condition, wanted in (
        ("zeros", torch.zeros(10, 5, dtype=torch.uint8)),
        ("test", tensors["test_labels"][:10]),
    ):
        sampling = SamplingConfig(solver="euler", steps=2, per_class=1, condition=condition)
        sample(
            model=trained,
            output=drawn,
            grid=grid,
            dataset="x",
            variant="full",
            seed=0,
            sampling=sampling,
            data=data,
            device="cpu",
        )
        assert torch.equal(read_samples(drawn)[1], wanted)
    with pytest.raises(UserError, match="found 12 test images to take attributes from"):
        sample(
            model=trained,
            output=drawn,
            grid=grid,
            dataset="x",
            variant="full",
            seed=0,
            sampling=replace(sampling, per_class=2),
            data=data,
        )


def test_configurations_survive_the_file(tiny_model):
    assert ModelConfig.from_dict(asdict(tiny_model)) == tiny_model
