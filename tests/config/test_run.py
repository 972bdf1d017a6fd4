"""What the rules ask a run for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowquant.config.reading import read_yaml
from flowquant.config.run import Run
from flowquant.runtime.digest import digest
from flowquant.runtime.errors import UserError
from project import ROOT, TINY

W = SimpleNamespace(dataset="digits", method="ot", variant="full", metric="fid")


def read(*files: Path, **more: Any) -> Run:
    return Run.read(TINY | more, ROOT, files)


def test_without_a_file_it_is_the_paper() -> None:
    assert Run.read({}, ROOT, []).datasets == ["mnist", "fmnist", "cifar10", "celeba"]
    paper = Run.read({"run": "three", "bits": [3]}, ROOT, [])
    assert (paper.name, paper.quantized) == ("three", ["uniform/3bit", "ot/3bit"])


def test_lists_on_the_command_line_hold_numbers() -> None:
    """Snakemake takes what stands in a list or a mapping after ``--config`` for text."""
    said = {"bits": ["3", "4"], "plot": {"dpi": "99", "formats": ["png"]}, "run": "three"}
    run = Run.read(TINY | said, ROOT, [], said)
    assert run.configuration.bits == (3, 4)
    assert run.configuration.plot.dpi == 99
    assert run.name == "three"


def test_a_file_without_a_run_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("bits: [3]")
    with pytest.raises(UserError, match=r"`run`: found nothing in mine.yaml; expected the name"):
        Run.read({"bits": [3]}, ROOT, [path])


def test_a_file_that_says_a_key_twice(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("run: a\nrun: b\n")
    with pytest.raises(UserError, match=r"mine.yaml: found `run` in line 1 and again in line 2"):
        read(path)


def test_names() -> None:
    methods = TINY["methods"] | {
        "mixed": {"levels": "lloyd", "budget": [2.5, 3], "refine": {"steps": 1}}
    }
    run = read(methods=methods)
    assert run.variants == ["full", "uniform/2bit", "ot/2bit", "mixed/2.5bit", "mixed/3bit"]
    assert run.quantized == run.variants[1:]
    assert (run.refined, run.mixed) == (["mixed"], ["mixed"])
    assert [variant.width for variant in run.allocated] == ["2.5bit", "3bit"]
    assert (run.classified, run.imported) == (["digits"], [])
    assert run.swept == run.variants
    assert read(sweep={"variants": ["full"]}).swept == ["full"]


def test_a_checkpoint_is_one_model() -> None:
    """That of the first training seed; of each other dataset there is one for each seed."""
    run = read(training_seeds=[3, 0])
    assert run.models == {"digits": ["-seed3", ""]}
    assert run.training_seed(SimpleNamespace(dataset="digits", training="-seed3")) == 3
    preset = TINY["presets"]["digits"] | {"checkpoint": "Snakefile"}
    imported = read(training_seeds=[3, 0], presets={"digits": preset})
    assert imported.models == {"digits": ["-seed3"]}


def test_gpus_are_asked_for_unless_there_is_none() -> None:
    assert read(device="auto").gpus == 1
    assert read(device="cpu").gpus == 0


def test_amounts() -> None:
    presets = {"digits": TINY["presets"]["digits"] | {"training": {"epochs": 9, "devices": 4}}}
    refined = {"levels": "lloyd", "refine": {"steps": 5, "devices": 2}}
    run = read(presets=presets, methods={"ot": refined})
    for part, amount in (("training", 400), ("refine", 200), ("sampling", 100)):
        asked = run.per_device(part, 100)
        assert callable(asked)
        assert asked(W) == amount
    assert read().per_device("training", 100) == 100
    assert dict(run.devices()) == {
        "presets.digits.training.devices": 4,
        "presets.digits.sampling.devices": 1,
        "methods.ot.refine.devices": 2,
    }
    assert [run.memory(100, "training")(W, attempt) for attempt in (1, 2)] == [400, 800]
    assert run.memory(100)(W, 3) == 300
    assert run.samples(W) == 100
    assert run.decoders(W) == 1
    assert run.published(W) == ROOT / "results/published/samples_evaluation_results.json"
    # Where and how to compute is no option that makes results stale.
    words = run.training_options(W) + run.refine_options(W)
    assert not [word for word in words if "devices" in word]


def test_options() -> None:
    run = read()
    assert run.source_options(W)[:2] == ["--source.kind=digits", "--source.test-fraction=0.3"]
    assert "--levels=equal_mass" in run.method_options(W)
    assert not [word for word in run.method_options(W) if "bits" in word]
    scored = run.score_options(W)
    assert scored[:2] == ["--extractors", "classifier"]
    assert "--metrics.is-splits=10" in scored
    assert not [word for word in scored if "neighbours" in word or "fidelity" in word]
    # Their order is that of tables: it makes no score stale.
    both = ["classifier", "clip-vit-b-32"]
    orders = [read(evaluation={"extractors": names}) for names in (both, both[::-1])]
    assert orders[0].score_options(W) == orders[1].score_options(W)
    # Full precision is not compared with itself.
    compared = read(fidelity={"steps": 9})
    assert compared.score_options(W) == scored
    more = compared.score_options(SimpleNamespace(variant="ot/2bit"))
    assert more == [*scored, "--fidelity.samples=128", "--fidelity.steps=9"]
    # A sweep goes stale with what it keeps of the preset's sampling, not with the steps.
    sweep = run.sweep_options(W)
    assert "--settings.per-class=10" in sweep
    assert not [word for word in sweep if "steps" in word]


def test_weights_of_extractors(tmp_path: Path) -> None:
    """As published, but for what is said; a file at hand is used where it lies."""
    mine = tmp_path / "mine.pth"
    mine.touch()
    weights = {"clip-vit-b-32": {"path": str(mine)}, "inception-v3-compat": {"sha256": "0" * 64}}
    extractors = ["classifier", "clip-vit-b-32", "inception-v3-compat"]
    run = read(evaluation={"extractors": extractors, "weights": weights})
    files = [
        run.extractor_weights(SimpleNamespace(dataset="digits", extractor=name))
        for name in extractors
    ]
    assert files == [
        f"results/{run.name}/classifiers/digits.safetensors",
        str(mine),
        "results/data/inception-v3-compat.pth",
    ]
    assert run.extractor_weights(W) == files[0]  # of rules that name none, the first's
    said = [run.weights_options(SimpleNamespace(extractor=name)) for name in extractors[1:]]
    assert said == [[], [f"--sha256={'0' * 64}"]]


def test_code_of_ones_own_counts_for_the_jobs_that_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "net.py"):
        (tmp_path / name).write_text("1")
    own = {"family": "custom", "class": "net.py:Net", "call": "t, x", "arguments": {"a": 1}}
    base = read_yaml(ROOT / "config/datasets.yaml")["presets"]["digits"]
    given = {
        "methods": TINY["methods"] | {"own": {"levels": "mine.py:levels"}},
        "datasets": ["digits", "other"],
        "presets": {"digits": base | {"network": own, "classifier": None}, "other": base},
        "evaluation": {"extractors": ["inception-v3-compat"]},
    }
    run = read(**given)
    assert run.classes == {"digits": "net.py:Net"}
    assert '--model.network.arguments={"a": 1}' in run.model_options(W)

    def code_of(command: str, **wildcards: str) -> str:
        code = run.code(command)
        return code if isinstance(code, str) else code(SimpleNamespace(**wildcards))

    def codes() -> dict[tuple[str, ...], str]:
        return {
            (command, dataset, method): code_of(command, dataset=dataset, method=method)
            for command in ("quantize", "sample", "score", "classifier")
            for dataset in ("digits", "other")
            for method in ("ot", "own")
        }

    before = codes()
    assert before["quantize", "other", "ot"] == digest("quantize")
    (tmp_path / "mine.py").write_text("2")
    changed = {job for job, code in codes().items() if code != before[job]}
    assert changed == {("quantize", "digits", "own"), ("quantize", "other", "own")}
    before = codes()
    (tmp_path / "net.py").write_text("2")
    changed = {job for job, code in codes().items() if code != before[job]}
    assert changed == {
        (c, "digits", m) for c in ("quantize", "sample", "score") for m in ("ot", "own")
    }
    (tmp_path / "net.py").unlink()
    with pytest.raises(UserError, match=r"`presets\.digits\.network\.class`: found 'net\.py'"):
        read(**given)


@pytest.mark.parametrize("part", ["checkpoint", "weights"])
def test_files_that_are_not_there(part: str, tmp_path: Path) -> None:
    if part == "checkpoint":
        presets = {"digits": TINY["presets"]["digits"] | {"checkpoint": "nowhere.pt"}}
        given: dict[str, Any] = {"presets": presets}
        key = "presets.digits.checkpoint"
    else:
        weights = {"inception-v3-compat": {"path": str(tmp_path)}}
        given = {"evaluation": {"weights": weights}}
        key = "evaluation.weights.inception-v3-compat.path"
    with pytest.raises(UserError, match=f"`{key}`: found .* where there is no file"):
        read(**given)
