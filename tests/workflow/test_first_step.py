"""From nothing to the first useful step in seconds: every stage, on a CPU."""

import pytest

from project import STAGES, Workflow

RUN = "results/everything"
MOST_SECONDS = 8
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
    "compare": (
        *(f"{RUN}/sampling/tiny_idx/{v}/seed0.safetensors" for v in ("full", "refined/2bit")),
        *("--real", f"{RUN}/evaluation/tiny_idx/classifier.features.safetensors"),
        *("--weights", f"{RUN}/classifiers/tiny_idx.safetensors", "--extractor", "classifier"),
        *("--output", f"{RUN}/comparisons.csv", "--resamples", "2", "--device", "cpu"),
    ),
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


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_at_work_in_seconds(
    processor_seconds: dict[str, list[float]], stage: str
) -> None:
    # The first of several processes may have found a cold file cache.
    assert min(processor_seconds[stage]) <= MOST_SECONDS
