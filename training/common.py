"""Networks as the paper's, without reading the workflow's configuration."""
import torch
from flowquant.config.model import ConditionConfig, FlowConfig, ImageConfig, ModelConfig
from flowquant.config.network import TransformerConfig
from flowquant.config.training import TrainingConfig

MNIST = ModelConfig(
    image=ImageConfig(channels=1, size=28), condition=ConditionConfig(kind="class", count=10),
    network=TransformerConfig(patch=4, width=384, heads=12, layers=10, feedforward=2048,
        activation="relu", dropout=0.1, time="linear", condition="embedding"),
    flow=FlowConfig(clock="forward", sigma=0.5))
CIFAR = ModelConfig(
    image=ImageConfig(channels=3, size=32), condition=ConditionConfig(kind="class", count=10),
    network=TransformerConfig(patch=4, width=768, heads=16, layers=8, feedforward=3072,
        activation="gelu", dropout=0.1, time="fourier", condition="linear"),
    flow=FlowConfig(clock="backward", sigma=0.5))
MODELS = {"mnist": MNIST, "cifar10": CIFAR}

def training(**kw):
    base = dict(epochs=100, batch=128, learning_rate=2e-4, weight_decay=0.01, schedule="constant",
        warmup_epochs=0, halve_after=3, stop_after=10, clip=None, validation=5000,
        condition_dropout=0.0, ema=None, precision="bfloat16")
    return TrainingConfig(**{**base, **kw})

def graph_us(work, repeats=30, together=20):
    """Median microseconds of work on the device, captured, several together; and the spread."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(together):
                work()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        a.record(); graph.replay(); b.record(); b.synchronize()
        times.append(a.elapsed_time(b) * 1e3 / together)
    times.sort()
    return times[len(times) // 2], times[3 * len(times) // 4] - times[len(times) // 4]
