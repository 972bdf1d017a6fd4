"""Which of a dataset's trained models: paths name them by the seed of training."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flowquant.runtime.errors import UserError

_SUFFIX = re.compile(r"(?:-seed([1-9][0-9]*))?")


@dataclass(frozen=True, order=True)
class Training:
    """A training of a dataset's network, by its seed.

    Written after the dataset's name it names the model: nothing for seed 0, so that the reference's
    paths stay (``fmnist``), and ``-seed1`` for seed 1 (``fmnist-seed1``). Names of presets have no
    dash.

    Attributes:
        seed: Of initial weights, order, times, noise and dropout; 0 or above.
    """

    seed: int = 0

    @classmethod
    def parse(cls, suffix: str) -> Training:
        """The training that `str` writes as ``suffix``.

        Raises:
            UserError: if it writes none so.
        """
        match = _SUFFIX.fullmatch(suffix)
        if match is None:
            raise UserError(
                "the name of a trained model",
                found=repr(suffix),
                expected="nothing for training seed 0, or `-seed1` and so on",
                remedy="Name it as the run's files are named.",
            )
        return cls(int(match[1] or 0))

    def __str__(self) -> str:
        return f"-seed{self.seed}" if self.seed else ""
