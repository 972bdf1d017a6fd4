"""What Snakemake is told of a machine's GPUs, and what it is not to be asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flowquant.config.gpus import share_gpus
from flowquant.config.run import Run
from flowquant.runtime import gpus
from flowquant.runtime.errors import UserError
from project import ROOT, TINY


class Workflow(SimpleNamespace):
    """Snakemake's, as far as it is asked."""

    def register_resource(self, name: str, value: int) -> None:
        self.global_resources[name] = value


def workflow(
    said: object = None, jobs: int | None = None, ours: bool = True, train: object = None
) -> Workflow:
    by_hand = {"train": {"gpu": train, "mem_mb": 9}, "sample": {"mem_mb": 9}}
    return Workflow(
        resource_settings=SimpleNamespace(nodes=jobs, overwrite_resources=by_hand),
        is_main_process=True,
        modifier=SimpleNamespace(is_main_snakefile=lambda: ours),
        global_resources={"gpu": said},
    )


def run(device: str = "auto", /, **devices: int) -> Run:
    digits = TINY["presets"]["digits"]
    parts = {part: digits[part] | {"devices": count} for part, count in devices.items()}
    return Run.read(TINY | {"device": device, "presets": {"digits": digits | parts}}, ROOT)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "count", lambda: 3)


@pytest.mark.parametrize(("found", "slots"), [(0, 1), (1, 1), (3, 3)])
def test_jobs_share_what_there_is(monkeypatch: pytest.MonkeyPatch, found: int, slots: int) -> None:
    monkeypatch.setattr(gpus, "count", lambda: found)
    snakemake = workflow()
    share_gpus(snakemake, run(training=1, sampling=max(1, found)))
    assert snakemake.global_resources["gpu"] == slots


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("snakemake", "device"),
    [
        (workflow(said=2), "auto"),  # --resources gpu=2
        (workflow(jobs=5), "auto"),  # --jobs 5: a cluster
        (workflow(ours=False), "auto"),
        (workflow(), "cpu"),
    ],
)
def test_what_was_said_and_what_is_not_ours_stays(snakemake: Workflow, device: str) -> None:
    before = dict(snakemake.global_resources)
    share_gpus(snakemake, run(device, training=1, sampling=2))
    assert snakemake.global_resources == before


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("said", "most"),
    [
        (None, "3, the GPUs of this machine"),
        (8, "3, the GPUs of this machine"),
        (2, "2, the GPUs of `--resources gpu=2`"),
        (SimpleNamespace(value=2), "2, the GPUs of `--resources gpu=2`"),  # later Snakemakes
    ],
)
@pytest.mark.parametrize("part", ["training", "sampling"])
def test_more_devices_than_there_are(said: Any, most: str, part: str) -> None:
    with pytest.raises(UserError) as raised:
        share_gpus(workflow(said), run(**{part: 4}))
    expected = f"key `presets.digits.{part}.devices`: found 4; expected at most {most}. Set it to "
    assert str(raised.value).startswith(expected)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("asked", [4, SimpleNamespace(value=4)], ids=["earlier", "now"])
def test_more_asked_for_by_hand(asked: object) -> None:
    with pytest.raises(UserError) as caught:
        share_gpus(workflow(train=asked), run())
    assert str(caught.value).startswith(
        "`--set-resources train:gpu`: found 4; expected at most 3, the GPUs of this machine. "
    )
    share_gpus(workflow(train=3), run())


def test_cpus_are_as_many_devices_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "count", lambda: 0)
    share_gpus(workflow(said=2), run(training=4))


def test_no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert gpus.count() == 0


@pytest.mark.parametrize(("failing", "found"), [(None, 3), ("cuInit", 0), ("cuDeviceGetCount", 0)])
def test_the_driver_counts(
    monkeypatch: pytest.MonkeyPatch, failing: str | None, found: int
) -> None:
    def count(number: Any) -> int:
        number._obj.value = 3
        return 100 * (failing == "cuDeviceGetCount")

    driver = SimpleNamespace(
        cuInit=lambda flags: 999 * (failing == "cuInit"), cuDeviceGetCount=count
    )
    monkeypatch.setattr("ctypes.CDLL", lambda name: driver)
    assert gpus.count() == found
