"""A network class of the user's own: what is wrong with it is one message."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ModelConfig
from flowquant.config.reading import merged, read_yaml
from flowquant.config.run import Run
from flowquant.models.custom import try_out
from flowquant.models.model import build_network, empty_network, read_model, write_model
from flowquant.runtime import own_code
from flowquant.runtime.errors import UserError
from flowquant.training.memory import training_bytes
from own_net import Net
from project import ROOT, TINY
from tiny import TINY_MODEL, TINY_NETWORKS, TRAINING, write_tiny_model

CLASS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, **arguments):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        {init}

    def forward(self, x, t, y=None, extra=None):
        {forward}
"""


def custom(class_: str = "own_net:Net", call: str = "t, x, labels=y", **more: Any) -> ModelConfig:
    config = CustomConfig(family="custom", class_=class_, call=call, **more)
    return replace(TINY_MODEL, network=config)


def written(folder: Path, init: str = "pass", forward: str = "return self.layer(x)") -> str:
    path = folder / "net.py"
    path.write_text(CLASS.format(init=init, forward=forward))
    return f"{path}:Net"


def tried(monkeypatch: pytest.MonkeyPatch, model: ModelConfig) -> None:
    assert isinstance(model.network, CustomConfig)
    monkeypatch.setenv(own_code.ALLOWED, model.network.class_)
    try_out(model)


def test_it_is_the_users_network_under_its_own_names() -> None:
    model = replace(TINY_MODEL, network=TINY_NETWORKS["custom"])
    torch.manual_seed(0)
    network = build_network(model).eval()
    own = Net(classes=4, width=32)
    # A constant that is no number is the class's to make.
    kept = dict(network.state_dict())
    assert kept.keys() == own.state_dict().keys() - {"order"}
    own.load_state_dict(kept, strict=False)
    x, t, y = torch.randn(3, 1, 8, 8), torch.rand(3), torch.arange(3)
    with torch.no_grad():
        assert torch.equal(network(x, t, y), own.eval()(t, x, labels=y))
    assert {tensor.device.type for tensor in empty_network(model).state_dict().values()} == {"meta"}


def test_making_an_empty_one_draws_nothing() -> None:
    state = torch.get_rng_state()
    empty_network(replace(TINY_MODEL, network=TINY_NETWORKS["custom"]))
    assert torch.equal(torch.get_rng_state(), state)


def test_memory_is_that_of_a_few_images_times_their_share() -> None:
    model = replace(TINY_MODEL, network=TINY_NETWORKS["custom"])
    few, many = (
        training_bytes(model, replace(TRAINING, batch=batch), 1, torch.float32)["activations"]
        for batch in (2, 200)
    )
    assert many == 100 * few > 0


@pytest.mark.parametrize(
    "forward",
    [
        "return self.layer(x)",
        "return type('Output', (), {'sample': self.layer(x)})()",
        "return self.layer(x), x",
        "assert t.shape == (2,) and extra['label'].shape == (2,); return self.layer(x)",
    ],
)
def test_every_way_of_calling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forward: str
) -> None:
    call = "x, t=t, extra={'label': y, 'more': [None]}"
    tried(monkeypatch, custom(written(tmp_path, forward=forward), call=call))


@pytest.mark.parametrize(
    ("init", "forward", "message"),
    [
        ("1 / 0", "return x", r"network\.arguments`: found \{\}.*ZeroDivisionError"),
        ("pass", "return y.missing", r"network\.call`: found 'x, t'.*AttributeError"),
        (
            "pass",
            "return self.layer(x)[:, :, :4]",
            r"makes \[2, 1, 4, 8\] of images",
        ),
        ("pass", "return {'v': self.layer(x)}", "the module's output: found a dict"),
        ("pass", "return x", r"network\.middle`: found 'layer', whose output"),
        ("self.norm = nn.BatchNorm2d(1)", "return x", "found batch norm in `norm`"),
        ("self.same = self.layer", "return x", "weights that are others, too: same.bias, same.w"),
    ],
)
def test_a_class_that_does_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, forward: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tried(monkeypatch, custom(written(tmp_path, init, forward), call="x, t"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:Net", r"found 'nowhere\.py', which cannot be imported \(FileNotFoundError"),
        ("no.such:Net", r"found 'no\.such', which cannot be imported \(ModuleNotFoundError"),
        ("own_net:Nett", r"found no `Nett` in 'own_net'; expected one of .*Net"),
        ("own_net:torch.zeros", r"network\.arguments`: found \{\}"),
    ],
)
def test_a_class_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tried(monkeypatch, custom(name))


def test_a_file_has_no_class_run_that_nobody_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_model(tmp_path, replace(TINY_MODEL, network=TINY_NETWORKS["custom"]))
    read_model(path)
    marker = tmp_path / "run"
    source = tmp_path / "evil.py"
    source.write_text(f"open({str(marker)!r}, 'w')\n")
    write_model(path, read_model(path)[0], custom(f"{source}:Net"), {})
    with pytest.raises(UserError, match=r"evil\.py:Net', which is not allowed"):
        read_model(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("x", "no `x` or no `t` in 'x'"),
        ("x, t, z", "`z`, which is none of x, t, y"),
        ("x, t, **y", r"`\*\*`"),
        ("x, t, open('y')", r"`open\('y'\)`"),
        ("x, t) + f(x", "more than the arguments"),
        ("x, t,, y", "no arguments of a call"),
    ],
)
def test_what_is_no_call(call: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CustomConfig(family="custom", class_="own_net:Net", call=call)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ('{class: "nowhere.py:Net", call: "t, x, y"}', r"class`: found 'nowhere\.py', where there"),
        ('{class: "own_net:Nett", call: "t, x, y"}', "class`: found no `Nett` in 'own_net'"),
        (
            '{class: "own_net:Net", arguments: {wide: 3}, call: "t, x, y"}',
            "arguments`: found .*wide",
        ),
        ('{class: "own_net:Net", arguments: [3], call: "t, x, y"}', r"arguments`: found \[3\]"),
        (
            '{class: "own_net:Net", arguments: {channels: 3}, call: "t, x[:, :1], labels=y"}',
            "call`: found `x",
        ),
        ('{class: "own_net:Net", call: "t, x, labels=z"}', "call`: found `z`, which is none of"),
        ('{class: "own_net:Net", call: "t, x, label=y"}', "call`: found 't, x, label=y', with"),
        ('{class: "own_net:Tall", call: "t, x, labels=y"}', r"call`: .* makes \[2, 1, 16, 8\]"),
    ],
)
def test_mistakes_in_a_configuration(
    network: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = yaml.safe_load(network) | {"family": "custom"}
    given = merged(read_yaml(ROOT / "config/datasets.yaml"), TINY)
    given["presets"]["digits"]["network"] = own
    with pytest.raises(UserError, match=r"configuration key `[\w.]*network\." + message):
        tried(monkeypatch, Run.read(given, ROOT).presets["digits"].model)


def test_a_condition_that_cannot_be_withheld() -> None:
    network = build_network(custom(arguments='{"width": 32}'))
    with pytest.raises(UserError, match=r"network\.null_class`: found nothing"):
        network(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.arange(2), torch.zeros(2))
