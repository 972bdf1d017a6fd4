"""How a network is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from flowquant.config.fields import (
    Count,
    NonNegative,
    Positive,
    Probability,
    check_shares,
    number,
    refuse,
    section,
)
from flowquant.runtime.names import Precision


@section
class TrainingConfig:
    """How a network is trained (the keys under ``training`` in a dataset's preset)."""

    epochs: Count
    """Passes over the data, at most."""

    batch: Count
    """Images a step."""

    learning_rate: Positive
    """Of AdamW, at its highest."""

    weight_decay: NonNegative = 0.01
    """Of AdamW."""

    schedule: Literal["plateau", "cosine", "linear", "constant"]
    """After the warm-up, ``plateau``: halve when the validation loss stalls; ``cosine`` and
    ``linear``: to 0 over all epochs; ``constant``: as it is."""

    warmup_epochs: NonNegative = 0.0
    """Epochs of linear warm-up, at most ``epochs``."""

    halve_after: Count = 3
    """Epochs without a better validation loss before halving (``plateau``)."""

    stop_after: Count = 10
    """Epochs without a better validation loss before stopping."""

    flip: bool = False
    """Mirror half of the images, drawn anew at every step, left to right: for data of which the
    mirror image is as likely."""

    clip: Positive | None = None
    """Largest norm of the gradient; ``null`` for any."""

    validation: Count | None
    """Training images held out to choose the best epoch; ``null``: the dataset's own validation
    split."""

    condition_dropout: Probability = 0.0
    """Probability of withholding the condition, which guidance needs."""

    ema: Annotated[float, number(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then validated and kept; at
    first less, (1 + step) / (10 + step), lest it remember the weights from before training."""

    precision: Precision = "bfloat16"
    """Of the forward and backward pass on a GPU, where ``bfloat16`` keeps float32 weights; CPUs
    compute in float32."""

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.warmup_epochs > self.epochs:
            refuse(
                "warmup_epochs",
                found=self.warmup_epochs,
                expected=f"at most `epochs`, {self.epochs}",
                remedy="Warm up for fewer epochs, or train for more.",
            )
        return self


@section
class TrainingSection(TrainingConfig):
    """How, and on how many devices, a network is trained."""

    devices: Count = 1
    """GPUs of one node that share each batch, which they must divide; without dropout the loss is
    the same but for rounding, with it each drops values of its own."""

    @model_validator(mode="after")
    def _check_devices(self) -> TrainingSection:
        check_shares(self.batch, self.devices)
        return self
