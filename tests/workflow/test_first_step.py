"""From nothing to the first useful step: every stage, in times of what PyTorch takes to import."""

import resource
import subprocess
import sys

import pytest

from project import STAGES, Workflow

RUN = "results/everything"
# Times `import torch`; 3 is usual for the slowest.
MOST = 5
# No rule runs the first; the others measure for seconds, however small the model: up to that.
BY_HAND: dict[str, tuple[str, ...]] = {
    "inspect": (
        f"{RUN}/quantized_models/tiny_idx/refined/2bit.safetensors",
        *("--against", f"{RUN}/models/tiny_idx_model.safetensors"),
    ),
    "benchmark_quantizers": (
        *("--output", f"{RUN}/benchmark_quantizers.json", "--device", "cpu"),
        *("--model", f"{RUN}/models/tiny_idx_model.safetensors", "--parts"),
    ),
    "benchmark": ("--help",),
    "plot_timeline": (
        *("--devices", f"{RUN}/logs/devices.jsonl", "--data", f"{RUN}/timeline.csv"),
        *("--outputs", f"{RUN}/plots/timeline.png", "--dpi", "50"),
    ),
    "export": (
        f"{RUN}/quantized_models/tiny_idx/refined/2bit.safetensors",
        *("--output", f"{RUN}/exported.safetensors"),
    ),
}


@pytest.fixture(scope="module")
def processor_seconds(everything: Workflow) -> dict[str, list[float]]:
    """Of whole processes, whose work is the least there can be: never less than to a first step.

    A processor's seconds: start-up is work for one, which busy neighbours only put off.
    """
    for stage, arguments in BY_HAND.items():
        done = everything.stage(stage, *arguments)
        assert done.returncode == 0, done.stdout[-5000:]
    return everything.processor_seconds()


@pytest.fixture(scope="module")
def torch_seconds() -> float:
    """Of a process that imports PyTorch and does no more, on the same machine as busy as now."""

    def used() -> float:
        found = resource.getrusage(resource.RUSAGE_CHILDREN)
        return found.ru_utime + found.ru_stime

    seconds = []
    for _ in range(3):
        before = used()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        seconds.append(used() - before)
    return max(seconds)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_soon_at_work(
    processor_seconds: dict[str, list[float]], torch_seconds: float, stage: str
) -> None:
    # The first of several processes may have found a cold file cache.
    assert min(processor_seconds[stage]) <= MOST * torch_seconds
