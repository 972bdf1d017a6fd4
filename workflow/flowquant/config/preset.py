"""A preset: a dataset with its network, and how both are used."""

from __future__ import annotations

from pydantic import model_validator

from flowquant.config.checkpoint import Checkpoint
from flowquant.config.classifier import ClassifierSection
from flowquant.config.custom import CustomConfig
from flowquant.config.fields import Text, refuse, section
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SamplingSection
from flowquant.config.sources import CelebaSource, ImagesSource, Source
from flowquant.config.training import TrainingSection

# What a source's images are, where that is known: channels, size and number of classes.
KNOWN = {"digits": (1, 8, 10), "cifar10": (3, 32, 10)}


@section
class Preset(ModelConfig):
    """One dataset: where it comes from, what models it, how that is trained, sampled and judged."""

    description: Text = ""
    """What the dataset is."""

    source: Source
    """Where the images come from, by ``kind``."""

    checkpoint: Checkpoint = None
    """A published checkpoint to import in place of training: its path, or its path and which of
    its weights."""

    training: TrainingSection
    """How the network is trained."""

    sampling: SamplingSection
    """How images are sampled."""

    classifier: ClassifierSection | None = None
    """The classifier that judges samples; ``null`` for none."""

    @property
    def model(self) -> ModelConfig:
        """What the velocity model is, without the rest."""
        return ModelConfig(
            image=self.image, condition=self.condition, network=self.network, flow=self.flow
        )

    @property
    def samples(self) -> int:
        """How many images each variant samples of each seed."""
        return self.sampling.per_class * self.condition.labels

    @model_validator(mode="after")
    def _check_preset(self) -> Preset:
        if self.condition.kind == "attributes" and self.classifier is not None:
            refuse(
                "classifier",
                found="a classifier for attributes",
                expected="null: a classifier needs `condition.kind: class`",
                remedy="Set `classifier: null`.",
            )
        if self.sampling.condition == "test" and self.condition.kind == "class":
            refuse(
                "sampling.condition",
                found="'test' for classes",
                expected="'zeros', since every class is sampled equally often",
                remedy="Leave `sampling.condition` out, or use attributes.",
            )
        if isinstance(self.network, CustomConfig):
            self._check_custom(self.network)
        if self.network.condition == "none":
            self._check_unconditional()
        if self.sampling.guidance != 1 and self.training.condition_dropout == 0:
            refuse(
                "sampling.guidance",
                found=f"{self.sampling.guidance:g} for a network that never learned to do without "
                "a condition",
                expected="1, or `training.condition_dropout` above 0",
                remedy="Set `training.condition_dropout` to what the network is (or was) trained "
                "with.",
            )
        self._check_source()
        return self

    def _check_custom(self, network: CustomConfig) -> None:
        sees = network.condition != "none" and network.null_class is None
        if sees and self.training.condition_dropout > 0:
            refuse(
                "training.condition_dropout",
                found=f"{self.training.condition_dropout:g} for a class of your own that cannot do "
                "without a condition",
                expected="0, or `network.null_class`",
                remedy="Name the class that means none in `network.null_class`, or leave "
                "`training.condition_dropout` and `sampling.guidance` out.",
            )

    def _check_unconditional(self) -> None:
        own = isinstance(self.network, CustomConfig)
        said = "no `y` in `network.call`" if own else "`network.condition: none`"
        for key, found in (
            ("classifier", self.classifier is not None and "a classifier"),
            ("sampling.guidance", self.sampling.guidance != 1 and f"{self.sampling.guidance:g}"),
        ):
            if found:
                refuse(
                    key,
                    found=f"{found} for a network that sees no classes ({said})",
                    expected="none, since its images are of any class",
                    remedy=f"Leave `{key}` out, or use a network with a condition.",
                )

    def _check_source(self) -> None:
        names = self.source.attributes if isinstance(self.source, CelebaSource) else ()
        if names and len(names) != self.condition.count:
            refuse(
                "condition.count",
                found=f"{self.condition.count}, where `source.attributes` names {len(names)}",
                expected="as many",
                remedy="Correct one of the two.",
            )
        known = KNOWN.get(self.source.kind)
        kind, own = self.source.kind, (self.image.channels, self.image.size, self.condition.count)
        if known is not None and (own != known or self.condition.kind != "class"):
            refuse(
                "image",
                found=f"{own[0]} channels of {own[1]} pixels, {own[2]} {self.condition.kind}",
                expected=f"{known[0]} of {known[1]} and {known[2]} classes, which `{kind}` is",
                remedy="Describe the images and conditions as they are, or name another source.",
            )
        parts = kind == "celeba" or (
            isinstance(self.source, ImagesSource)
            and self.source.layout.validation is not None
            and self.source.layout.test_fraction is None
        )
        if self.training.validation is None and self.checkpoint is None and not parts:
            refuse(
                "training.validation",
                found=f"null for the source `{kind}`, which has no validation split here",
                expected="the number of training images to hold out",
                remedy="Set `training.validation`.",
            )
