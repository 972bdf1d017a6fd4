"""Published checkpoints: every wrapping, and every way in which one may not fit."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.models.model import build_network, read_model
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_json
from flowquant.stages.import_model import import_model


@pytest.fixture
def weights(tiny_model: ModelConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return OrderedDict(build_network(tiny_model).state_dict())


def wrapped(how: str, weights: dict[str, Any]) -> dict[str, Any]:
    if how.startswith("parallel"):
        weights = OrderedDict((f"module.{name}", tensor) for name, tensor in weights.items())
    for nest in ("model", "state_dict"):
        if nest in how.split():
            weights = {nest: weights, "epoch": 3, "optimizer": {"lr": 0.1}}
    return weights


def import_into(folder: Path, checkpoint: Path, model: ModelConfig) -> tuple[Path, Path]:
    output, report = folder / "out" / "model.safetensors", folder / "out" / "model.json"
    import_model(
        checkpoint=checkpoint, dataset="squares", model=model, output=output, report=report
    )
    return output, report


def check(checkpoint: Path, model: ModelConfig) -> None:
    import_model(checkpoint=checkpoint, dataset="squares", model=model, check=True)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize(
    "how", ["plain", "model", "state_dict", "parallel", "parallel model", "parallel state_dict"]
)
def test_every_wrapping(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor], how: str, suffix: str
) -> None:
    checkpoint = tmp_path / f"published{suffix}"
    torch.save(wrapped(how, weights), checkpoint)
    output, report = import_into(tmp_path, checkpoint, tiny_model)
    found, config = read_model(output)
    assert config == tiny_model
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    count = sum(tensor.numel() for tensor in weights.values())
    assert read_json(report, dict[str, Any])["parameters"] == count


@pytest.mark.parametrize("how", ["plain", "parallel"])
def test_safetensors(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor], how: str
) -> None:
    save_file(wrapped(how, weights), tmp_path / "published.safetensors")
    output, _ = import_into(tmp_path, tmp_path / "published.safetensors", tiny_model)
    assert read_model(output)[0].keys() == weights.keys()


def test_old_format_of_torch_save(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    output, _ = import_into(tmp_path, tmp_path / "old.pt", tiny_model)
    assert read_model(output)[0].keys() == weights.keys()


def test_half_precision_becomes_float32(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    torch.save({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.pt")
    output, _ = import_into(tmp_path, tmp_path / "half.pt", tiny_model)
    assert {tensor.dtype for tensor in read_model(output)[0].values()} == {torch.float32}


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda c, p: p.write_bytes(pickle.dumps(c))])
def test_malicious_checkpoint_is_refused_and_not_executed(
    tmp_path: Path,
    tiny_model: ModelConfig,
    weights: dict[str, Tensor],
    save: Callable[[Any, Path], None],
) -> None:
    marker, checkpoint = tmp_path / "executed", tmp_path / "published.pt"
    save({"model": weights, "extra": Malicious(marker)}, checkpoint)
    for stage in (import_into, lambda _, path, model: check(path, model)):
        with pytest.raises(UserError, match=r"published.pt: found no plain weights"):
            stage(tmp_path, checkpoint, tiny_model)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_mismatch_lists_ten_names_of_each_kind(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    names = sorted(weights)
    changed = {name: weights[name] for name in names[12:]}
    changed |= {f"unknown.{i:02d}": torch.zeros(1) for i in range(11)}
    for name in names[12:25]:
        changed[name] = torch.zeros(2, 2, 2)
    torch.save(changed, tmp_path / "published.pt")
    with pytest.raises(UserError) as error:
        import_into(tmp_path, tmp_path / "published.pt", tiny_model)
    missing, unexpected, shapes = str(error.value).split("found ")[1].split("; ")[:3]
    assert missing == f"missing: {', '.join(names[:10])} and 2 more"
    assert unexpected.startswith("unexpected: unknown.00, unknown.01")
    assert unexpected.endswith("unknown.09 and 1 more")
    assert shapes.startswith("of another form: ")
    assert shapes.count(", float32 [2, 2, 2] for float16|bfloat16|float32|float64 [") == 10
    assert shapes.endswith("and 3 more")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor], value: float
) -> None:
    weights["pos_emb"][0, 0, 0] = value
    torch.save(weights, tmp_path / "published.pt")
    with pytest.raises(UserError, match="NaN or infinite values in pos_emb"):
        import_into(tmp_path, tmp_path / "published.pt", tiny_model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "a list that is no state dict"),
        ({"weights": [1, 2]}, "a dict that is no state dict"),
        (torch.zeros(2), "a Tensor that is no state dict"),
    ],
)
def test_no_state_dict(tmp_path: Path, tiny_model: ModelConfig, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "published.pt")
    with pytest.raises(UserError, match=message):
        import_into(tmp_path, tmp_path / "published.pt", tiny_model)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(50), bytes(range(256))])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bytes_that_are_no_checkpoint(
    tmp_path: Path, tiny_model: ModelConfig, content: Any, suffix: str
) -> None:
    (tmp_path / f"published{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=r"found (no plain weights|an unreadable file)"):
        import_into(tmp_path, tmp_path / f"published{suffix}", tiny_model)


def test_absent_checkpoint(tmp_path: Path, tiny_model: ModelConfig) -> None:
    with pytest.raises(UserError, match="No such file"):
        check(tmp_path / "published.pt", tiny_model)


def test_check_says_what_fits_and_writes_nothing(
    tmp_path: Path,
    tiny_model: ModelConfig,
    weights: dict[str, Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(weights, tmp_path / "published.pt")
    check(tmp_path / "published.pt", tiny_model)
    count = sum(w.numel() for w in weights.values())
    said = capsys.readouterr().out
    assert said.startswith("squares: ")
    assert f"published.pt fits: {len(weights)} tensors, {count:,} parameters" in said
    assert [path.name for path in tmp_path.iterdir()] == ["published.pt"]


def test_nowhere_to_write_to(tmp_path: Path, tiny_model: ModelConfig) -> None:
    with pytest.raises(UserError, match=r"no --output or no --report; expected both, or --check"):
        import_model(
            checkpoint=tmp_path / "published.pt",
            dataset="squares",
            model=tiny_model,
            output=tmp_path / "model",
        )


def sparse(tensor: Tensor) -> Tensor:
    return tensor.to_sparse()


def quantized(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of sparse and quantized tensors
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Tensor.long, "pos_emb, int64"),
        (Tensor.bool, "pos_emb, bool"),
        (lambda tensor: tensor + 0j, "pos_emb, complex64"),
        (sparse, "pos_emb, sparse_coo float32"),
        (quantized, "pos_emb, quantized qint8"),
        (lambda tensor: tensor.to("meta"), "pos_emb, meta float32"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "pos_emb, float8_e4m3fn"),
        (lambda tensor: tensor.double() + 1e300, "NaN or infinite values in pos_emb.*past float32"),
    ],
)
def test_tensors_that_are_no_weights(
    tmp_path: Path,
    tiny_model: ModelConfig,
    weights: dict[str, Tensor],
    change: Callable[[Tensor], Tensor],
    found: str,
) -> None:
    weights["pos_emb"] = change(weights["pos_emb"])
    torch.save(weights, tmp_path / "published.pt")
    with pytest.raises(UserError, match=rf"published\.pt: found .*{found}"):
        import_into(tmp_path, tmp_path / "published.pt", tiny_model)
    assert not (tmp_path / "out").exists()


def test_a_weight_named_twice(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    torch.save(weights | {"module.pos_emb": weights["pos_emb"] + 1}, tmp_path / "published.pt")
    with pytest.raises(UserError, match=r"with and without `module\.` in front: pos_emb;"):
        import_into(tmp_path, tmp_path / "published.pt", tiny_model)


def test_weights_that_share_memory(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    first, second = "transformer.layers.0.norm1.weight", "transformer.layers.0.norm2.weight"
    weights[second] = weights[first]
    torch.save(weights, tmp_path / "published.pt")
    output, _ = import_into(tmp_path, tmp_path / "published.pt", tiny_model)
    found, _ = read_model(output)
    assert found[second].equal(weights[first])
