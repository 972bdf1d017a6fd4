"""Digests of code: what they follow, and what they do not."""

import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from flowquant.runtime.digest import PACKAGE, digest, imported_modules

LOSS = "return (predicted - (images - noise)).square().mean()"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(
        PACKAGE, tmp_path / "flowquant", ignore=shutil.ignore_patterns("__pycache__")
    )


def digest_in(package: Path, command: str) -> str:
    """A digest of a copy of the package, computed by the copy: nothing is remembered."""
    spec = spec_from_file_location("digest_of_a_copy", package / "runtime" / "digest.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.digest(command)


def test_what_a_stage_runs() -> None:
    train = imported_modules("stages.train")
    assert {"models.transformer", "models.path", "models.model", "runtime.random"} <= train
    assert not {"quantization.codebook", "quantization.packing"} & train
    assert "quantization.levels" in imported_modules("stages.quantize")
    for stage in ("train", "sample", "score", "classifier"):
        assert "quantization.levels" not in imported_modules(f"stages.{stage}")


def test_stages_differ() -> None:
    assert re.fullmatch("[0-9a-f]{16}", digest("train"))
    assert digest("train") != digest("sample")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (LOSS, f"# A comment.\n\n    {LOSS}  # another"),
        ('"""Mean squared error of', '"""The error of'),
        ('"""The flow:', '"""A flow:'),
        (LOSS, f'"""A sentence under a line."""\n    {LOSS}'),
        (LOSS, "return (\n        (predicted - (images - noise)).square().mean()\n    )"),
    ],
)
def test_words_and_layout_do_not_count(copy: Path, old: str, new: str) -> None:
    edit(copy / "models" / "path.py", old, new)
    assert digest_in(copy, "train") == digest("train")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("models/path.py", LOSS, LOSS.replace("square", "abs")),
        ("models/path.py", '"sample"', '"noise"'),
        ("models/path.py", "kept: Tensor | None = None", "kept: Tensor | None = False"),
        ("runtime/random.py", ">> 1", ">> 2"),
    ],
)
def test_code_counts_where_it_is_used(copy: Path, module: str, old: str, new: str) -> None:
    edit(copy / module, old, new)
    assert digest_in(copy, "train") != digest("train")
    assert digest_in(copy, "plot_metrics") == digest("plot_metrics")


def edit(path: Path, old: str, new: str) -> None:
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new), encoding="utf-8")
