"""Every kind of file, damaged in every way: a reader says so in one message, or reads the same."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flowquant
from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.method import MethodConfig
from flowquant.data.dataset import read_dataset, read_validation
from flowquant.evaluation.classifier import build_classifier, read_classifier, write_classifier
from flowquant.evaluation.features import read_features, write_features
from flowquant.models.model import load_network, read_model
from flowquant.quantization.allocation import Allocation, Sensitivity
from flowquant.quantization.hessians import observed, read_hessians, write_hessians
from flowquant.quantization.packed_file import PackedTensor, read_packed
from flowquant.quantization.packed_header import PACKED
from flowquant.quantization.variant import load_variant
from flowquant.report import results
from flowquant.report.scores import read_scores
from flowquant.report.tables import read_results
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_json
from flowquant.runtime.header import read_header
from flowquant.runtime.tensors import content_sha256, packed_metadata, read_tensors
from flowquant.sampling.samples import Origin, read_samples, write_samples
from flowquant.stages.quantize import quantize
from scored import scored, scores
from tiny import TINY_MODEL, write_tiny_dataset, write_tiny_model

# What takes the place of a value: other types, and numbers that no key may hold.
WRONG: tuple[Any, ...] = (None, True, "2", -1, 0, 17, 10**30, 1.5, [], {}, [[]])
FLIPS = 40
MOST_CHANGES = 150
KINDS = (
    *(
        "model",
        "variant",
        "packed",
        "header",
        "saved",
        "coded",
        "coded header",
        "vectors",
        "common",
    ),
    *("samples", "classifier", "features", "dataset", "hessians"),
)
Reader = Callable[[Path], Any]


class Tied(nn.Module):
    """A network of the user's own, with a tied weight and a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.again = nn.Linear(8, 8), nn.Linear(8, 8)
        self.again.weight = self.layer.weight
        self.register_buffer("steps", torch.tensor(3001))


class Pair(nn.Module):
    """Two weights, of which one may be read where the other no longer can."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)


def inspected(path: Path) -> Any:
    """What a header says, but where in the file tensors lie."""
    header = read_header(path, PACKED)
    return {n: (e.kind, e.shape, e.bytes) for n, e in header.entries.items()}, header.metadata


@cache
def originals() -> dict[str, tuple[Path, Reader]]:
    """A file of each kind, and its readers."""
    folder = Path(mkdtemp())
    torch.manual_seed(0)
    model, data = write_tiny_model(folder), write_tiny_dataset(folder)
    packed, samples, classifier, features = (
        folder / f"{name}.safetensors" for name in ("packed", "samples", "classifier", "features")
    )
    quantize(
        model=model,
        output=packed,
        report=folder / "report.json",
        method=MethodConfig(levels="lloyd", granularity="row", scope="matrices"),
        dataset="tiny",
        variant="lloyd/3bit",
        bits=3,
        device="cpu",
    )
    saved = folder / "saved.safetensors"
    flowquant.save(flowquant.quantize(Tied(), bits=2), saved)
    coded = folder / "coded.safetensors"
    wide = nn.Linear(64, 32)
    nn.init.normal_(wide.weight)
    flowquant.save(flowquant.quantize(wide, 3, granularity="tensor", coding="ans"), coded)
    vectors = folder / "vectors.safetensors"
    small = flowquant.quantize(wide, 1, levels={"vector": 4}, granularity="scaled")
    flowquant.save(small, vectors)
    common = folder / "common.safetensors"
    flowquant.save(flowquant.quantize(Pair(), 1, granularity="network"), common)
    assert {"weight.coded", "weight.frequencies"} <= read_tensors(coded)[0].keys()
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    write_samples(samples, images, torch.arange(6) % 3, Origin("tiny", "full", 3, 8.0))
    architecture = ArchitectureConfig(name="squeezenet1_1", image=TINY_MODEL.image, classes=3)
    write_classifier(classifier, build_classifier(architecture), architecture)
    write_features(features, torch.randn(6, 4), torch.rand(6).double(), "classifier", data, 3)
    hessians = folder / "hessians.safetensors"
    network = load_network(*read_model(model))
    points = torch.randn(32, 1, 8, 8), torch.rand(32), torch.arange(32) % 3
    some = {"out_proj.weight", "patch_proj.weight"}
    write_hessians(
        hessians,
        observed(model, network, TINY_MODEL.flow, points, some),
        {"source_sha256": "a" * 64, "points": 32},
    )
    return {
        "model": (model, read_model),
        "variant": (packed, partial(load_variant, packed=True)),
        "packed": (packed, read_packed),
        "header": (packed, inspected),
        "saved": (saved, lambda path: flowquant.load(path, into=Tied())),
        "coded": (coded, lambda path: flowquant.load(path, into=nn.Linear(64, 32))),
        "vectors": (vectors, lambda path: flowquant.load(path, into=nn.Linear(64, 32))),
        "common": (common, lambda path: flowquant.load(path, into=Pair())),
        "coded header": (coded, inspected),
        "samples": (samples, read_samples),
        "classifier": (classifier, read_classifier),
        "features": (features, partial(read_features, extractor="classifier", weights=data)),
        "hessians": (
            hessians,
            lambda path: read_hessians(
                path, "a" * 64, read_model(model)[0], read_model(model)[1].condition
            ),
        ),
        "dataset": (data, lambda path: (read_dataset(path), read_validation(path))),
    }


def plain(content: Any) -> Any:
    """What was read, as what can be compared: tensors as their types, shapes and bytes."""
    if isinstance(content, nn.Module):
        content = dict(content.state_dict())
    if isinstance(content, Tensor):
        return str(content.dtype), tuple(content.shape), content.contiguous().numpy().tobytes()
    if isinstance(content, PackedTensor):
        content = vars(content)
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items() if key not in FREE}
    if isinstance(content, tuple | list):
        return [plain(item) for item in content]
    return plain(vars(content)) if hasattr(content, "__dict__") else content


# Of the metadata, what says nothing of the content.
FREE = ("kind", "version", "made_by", "content_sha256", "training")


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """A file's header and the bytes of its tensors."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def whole(header: dict[str, Any], content: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def read_or_refuse(reader: Reader, path: Path) -> Any:
    """What a reader makes of a file; None where it refuses it in a message with its name."""
    try:
        return plain(reader(path))
    except UserError as error:
        assert path.name in str(error)
        assert "\n" not in str(error)
        return None


def changes(content: Any) -> Iterator[Any]:
    """JSON with one key left out, or one value replaced."""
    if isinstance(content, dict | list):
        keys: list[Any] = list(content) if isinstance(content, dict) else list(range(len(content)))
        for key in keys[:12]:
            less = content.copy()
            del less[key]
            yield less
            for value in (*WRONG, *changes(content[key])):
                other = content.copy()
                other[key] = value
                yield other


@pytest.mark.parametrize("name", KINDS)
def test_bytes_that_were_changed(name: str, tmp_path: Path) -> None:
    """Cut off, longer, one bit flipped: in the header, in the metadata, in the tensors."""
    path, reader = originals()[name]
    content, damaged = path.read_bytes(), tmp_path / "damaged.safetensors"
    expected = plain(reader(path))
    draws = random.Random(name)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for end in (0, 7, 8, 100, header, len(content) - 1):
        damaged.write_bytes(content[:end])
        assert read_or_refuse(reader, damaged) is None
    places = [draws.randrange(end) for end in (header, len(content)) for _ in range(FLIPS)]
    for place in (*range(9), *places):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draws.randrange(8)
        damaged.write_bytes(flipped)
        assert read_or_refuse(reader, damaged) in (None, expected), place


@pytest.mark.parametrize("name", KINDS)
def test_metadata_that_were_changed(name: str, tmp_path: Path) -> None:
    """Keys left out or replaced, with the digest of what stood there and of what stands there."""
    path, reader = originals()[name]
    damaged = tmp_path / "damaged.safetensors"
    header, content = parts(path)
    tensors, metadata = read_tensors(path)
    expected = plain(reader(path))
    every = list(changes(metadata))
    for other in random.Random(name).sample(every, min(len(every), MOST_CHANGES)):
        signed = other | {"content_sha256": content_sha256(tensors, other)}
        for sign, said in ((False, other), (True, signed)):
            damaged.write_bytes(whole(header | {"__metadata__": packed_metadata(said)}, content))
            found = read_or_refuse(reader, damaged)
            if not sign and "content_sha256" in other:
                assert found in (None, expected)


NO_METADATA = (
    *("", "{", "[]", "1", "null", '"x"', "{}", "[" * 100_000, "9" * 5000),
    *('{"a": NaN}', '{"a": 1e999}', '{"kind": "\\ud800"}', '{"model": ' * 900 + "1" + "}" * 900),
)


@pytest.mark.parametrize("text", NO_METADATA)
def test_metadata_that_are_none(text: str, tmp_path: Path) -> None:
    for name in KINDS:
        path, reader = originals()[name]
        damaged = tmp_path / "damaged.safetensors"
        header, content = parts(path)
        damaged.write_bytes(whole(header | {"__metadata__": {"flowquant": text}}, content))
        found = read_or_refuse(reader, damaged)
        assert found is None or (name, text) == ("dataset", "{}")


@pytest.mark.parametrize("name", KINDS)
def test_headers_that_were_changed(name: str, tmp_path: Path) -> None:
    """Tensors of another type, shape or place, of other names, one more, one less."""
    path, reader = originals()[name]
    damaged = tmp_path / "damaged.safetensors"
    header, content = parts(path)
    names = [key for key in header if key != "__metadata__"]
    types = ("BOOL", "I8", "U8", "I16", "F16", "BF16", "F32", "I64", "C64", "F64", "F8_E4M3", "F4")
    shapes: tuple[Any, ...] = ([], [0], [-1], [1, 1], [2**62, 4], [1.5], None, "x")
    for key in names[:4] + names[-4:]:
        entry = header[key]
        others = [entry | {"dtype": kind} for kind in types if kind != entry["dtype"]]
        others += [entry | {"shape": shape} for shape in shapes if shape != entry["shape"]]
        others += [entry | {"data_offsets": place} for place in ([0, 0], [0, -1], [5], None)]
        for other in others:
            damaged.write_bytes(whole(header | {key: other}, content))
            assert read_or_refuse(reader, damaged) is None
        less = {name: value for name, value in header.items() if name != key}
        for other in (less, less | {"other": entry}, header | {"other": entry}):
            damaged.write_bytes(whole(other, content))
            assert read_or_refuse(reader, damaged) is None


def result(**more: Any) -> dict[str, Any]:
    return {"dataset": "tiny", "variant": "ot/2bit", **more}


OF_SAMPLES: dict[str, Any] = {"seed": 1, "n": 9}
RECOGNIZED = dict.fromkeys(("accuracy", "precision", "recall", "f1"), 0.5)
TENSOR = {"values": 9, "variance": 1.0, "w2": 0.1, "mean_squared_error": 0.01}
SWEPT = {"solver": "euler", "steps": 2, "tolerance": None, "evaluations": 2, "fid": 1, "seconds": 1}
JSON: dict[type, dict[str, Any]] = {
    results.Scores: result(
        **OF_SAMPLES,
        **scores(scored(), evaluations=8.0),
        downstream=RECOGNIZED,
        fidelity={
            "psnr": 20.0,
            "ssim": 0.9,
            "trajectories": 4,
            "paths": {"t": [0.0, 0.5], "velocity_error": [0.1, 0.2], "divergence": [0.0, 0.5]},
        },
    ),
    results.Size: result(effective_bits=2.1, bytes=99),
    results.Judge: {"dataset": "tiny", "test_accuracy": 0.9},
    results.Sweep: result(**OF_SAMPLES, n_real=9, features=5, extractor="classifier", rows=[SWEPT]),
    results.Distances: result(
        refined=False,
        effective_bits=2.1,
        method={"levels": "lloyd", "granularity": "row", "scope": "all"},
        tensors={"w": TENSOR},
    ),
    Sensitivity: {
        "dataset": "tiny",
        "parameters": 9,
        "fixed_bits": 0,
        "tensors": {
            "w": {
                "values": 9,
                "options": [{"width": 2, "stored_bits": 18, "velocity_error": 0.1}],
            }
        },
    },
    Allocation: result(budget=2.0, effective_bits=1.9, tensors={"w": {"width": 2}}),
}


OPTIONAL = ("evaluations", "downstream", "fidelity")


@pytest.mark.parametrize("form", JSON)
def test_results_that_were_changed(form: type, tmp_path: Path) -> None:
    """Every key left out or replaced; nothing is read for what is no number or no text."""
    path = tmp_path / "result.json"

    def reader(path: Path) -> Any:
        if form is results.Scores:
            return read_scores([path], ["classifier"])
        is_result = issubclass(form, results.Result)
        return read_results([path], form) if is_result else read_json(path, form)

    path.write_text(json.dumps(JSON[form]))
    assert read_or_refuse(reader, path) is not None
    for other in changes(JSON[form]):
        path.write_text(json.dumps(other))
        found = read_or_refuse(reader, path)
        # All keys but one are needed; mappings of tensors may be empty.
        if other.keys() < JSON[form].keys():
            [left_out] = JSON[form].keys() - other.keys()
            assert found is None or left_out in OPTIONAL
    for text in NO_METADATA:
        path.write_text(text)
        assert read_or_refuse(reader, path) is None
    path.write_bytes(b"\xff\xfe{")
    assert read_or_refuse(reader, path) is None
    assert read_or_refuse(reader, tmp_path / "missing.json") is None


def test_the_message_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(JSON[Sensitivity]).replace('"width": 2', '"width": "2"'))
    with pytest.raises(UserError, match=r"json: found '2' for `tensors\.w\.options\.0\.width`: "):
        read_json(path, Sensitivity)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"json: found .*; expected a JSON file that the workflow"):
        read_json(path, Sensitivity)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"version": 2},
            r"a model of format version 2, made by flowquant .*; expected format version 1, "
            r"as flowquant .* reads it\. Update flowquant",
        ),
        ({"version": 0}, r"format version 0, .*: `train` or `import_model` makes it anew"),
        ({"version": True}, r"format version True"),
        ({"kind": "samples file"}, r"found a samples file; expected a model, written by `train`"),
        ({"made_by": "flowquant 9", "version": 3}, r"version 3, made by flowquant 9;"),
    ],
)
def test_other_versions_and_kinds(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path, reader = originals()["model"]
    tensors, metadata = read_tensors(path)
    header, content = parts(path)
    damaged = tmp_path / "model.safetensors"
    signed = metadata | changed
    signed["content_sha256"] = content_sha256(tensors, signed)
    damaged.write_bytes(whole(header | {"__metadata__": packed_metadata(signed)}, content))
    with pytest.raises(UserError, match=message):
        reader(damaged)


@pytest.mark.parametrize("name", KINDS)
def test_files_from_before_are_read(name: str, tmp_path: Path) -> None:
    """They had neither kind nor maker; a version only where they were packed."""
    path, reader = originals()[name]
    tensors, metadata = read_tensors(path)
    header, content = parts(path)
    before = {key: value for key, value in metadata.items() if key not in ("kind", "made_by")}
    if "packed" not in metadata:
        del before["version"]
    before["content_sha256"] = content_sha256(tensors, before)
    old = tmp_path / "old.safetensors"
    old.write_bytes(whole(header | {"__metadata__": packed_metadata(before)}, content))
    assert plain(reader(old)) == plain(reader(path))
