"""A run: its configuration, checked and complete, and what the rules ask it for.

Methods that take wildcards are input, params and resources functions; options are lists of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowquant.config.checkpoint import checkpoint_files
from flowquant.config.classifier import ClassifierConfig
from flowquant.config.command_line import options
from flowquant.config.comparisons import ComparisonsSection
from flowquant.config.compensation import CompensationConfig
from flowquant.config.configuration import Configuration
from flowquant.config.custom import CustomConfig
from flowquant.config.evaluation import FidelityConfig, MetricsConfig
from flowquant.config.extractors import ExtractorName, WeightsConfig
from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig, ImageConfig, ModelConfig
from flowquant.config.peer import KNOWN, PeerConfig
from flowquant.config.preset import Preset
from flowquant.config.reading import check, merged, read_yaml, refuse_missing_files, retyped
from flowquant.config.refinement import RefineConfig
from flowquant.config.sampling import SamplingConfig, SolverConfig, SweepConfig
from flowquant.config.sources import ImagesSource
from flowquant.config.trained import Training
from flowquant.config.training import TrainingConfig
from flowquant.runtime.digest import digest, imported_modules, module_of
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.own_code import content_digest, file_of, is_path

# Of a rule, as Snakemake gives them.
Wildcards = Any
Words = list[str]


class Run:
    """What a run's rules are made of.

    Args:
        configuration: All that was configured.
        source: The workflow's own folder.
    """

    def __init__(self, configuration: Configuration, source: Path) -> None:
        self.configuration, self.source = configuration, source
        self.name = configuration.run
        self.datasets = list(configuration.datasets)
        self.presets = {name: configuration.presets[name] for name in self.datasets}
        self.methods, self.peers = configuration.methods, configuration.peers
        self.seeds = list(configuration.seeds)
        self.trainings = [str(Training(seed)) for seed in configuration.training_seeds]
        self.variants = [str(variant) for variant in configuration.variants]
        self.quantized = [name for name in self.variants if name != "full"]
        # Less those of peers, which have no levels of ours.
        self.packed = [str(v) for v in configuration.variants if v.method in self.methods]
        self.refined = [name for name, row in self.methods.items() if row.refine]
        self.mixed = [name for name, row in self.methods.items() if row.budget]
        self.allocated = [v for v in configuration.variants if v.method in self.mixed]
        self.classified = [name for name, preset in self.presets.items() if preset.classifier]
        self.imported = [name for name, preset in self.presets.items() if preset.checkpoint]
        # Code of the user's own, by dataset and by method.
        self.classes = {
            name: preset.network.class_
            for name, preset in self.presets.items()
            if isinstance(preset.network, CustomConfig)
        }
        self.functions = {name: row.levels for name, row in self.methods.items() if row.own}
        self.trained = [name for name in self.datasets if name not in self.imported]
        # Of each dataset, by seeds of training; an imported checkpoint is that of the first seed.
        self.models = {
            name: self.trainings[:1] if name in self.imported else self.trainings
            for name in self.datasets
        }
        # The first is that of tables, figures and sweeps.
        self.extractors = list(configuration.evaluation.extractors)
        self.extractor = self.extractors[0]
        self.gpus = 0 if configuration.device == "cpu" else 1

    @classmethod
    def read(
        cls,
        given: Mapping[str, Any],
        source: Path,
        files: Sequence[str | Path] = (),
        said: Mapping[str, Any] | None = None,
    ) -> Run:
        """The run that Snakemake was given, over the presets that come with the workflow.

        Without any, it is that of ``config/config.yaml`` in the working directory, or else of the
        workflow's own: the paper.

        Args:
            given: What Snakemake made of configuration files and ``--config``.
            source: The workflow's own folder, with ``config/datasets.yaml`` in it.
            files: The configuration files of the command line, as they are given.
            said: What ``--config`` says, which is in ``given`` too.

        Raises:
            UserError: at the first thing that is wrong.
        """
        for path in map(Path, files):
            read_yaml(path)
        given = merged(given, {key: retyped(value) for key, value in (said or {}).items()})
        presets = read_yaml(source / "config" / "datasets.yaml")
        if not files and "datasets" not in given:
            own = Path("config/config.yaml")
            default = own if own.is_file() else source / own
            presets = merged(presets, read_yaml(default))
        elif "run" not in given:
            raise UserError(
                "configuration key `run`",
                found=" in ".join(["nothing", *(Path(path).name for path in files)]),
                expected="the name of a run",
                remedy="Name it in the file, or put the file after the run that it changes: "
                "`--configfile config/quickstart.yaml mine.yaml`.",
            )
        run = cls(check(merged(presets, given)), source)
        refuse_missing_files(run._named_files())
        return run

    def _named_files(self) -> Iterable[tuple[str, str]]:
        for name in self.imported:
            checkpoint = self.presets[name].checkpoint
            assert checkpoint is not None
            for path in checkpoint_files(Path(checkpoint.path)):
                yield f"presets.{name}.checkpoint", str(path)
        for section, key, names in (
            ("presets", "network.class", self.classes),
            ("methods", "levels", self.functions),
        ):
            for name, own in names.items():
                if is_path(own):
                    yield f"{section}.{name}.{key}", str(file_of(own))
        for name, row in self.peers.items():
            if row.peer not in KNOWN:
                yield f"peers.{name}.peer", row.peer
        for extractor, weights in self.configuration.evaluation.weights.items():
            if weights.path is not None and extractor in self.extractors:
                yield f"evaluation.weights.{extractor}.path", weights.path

    def code(self, command: str) -> Callable[[Wildcards], str] | str:
        """A hash of the code that a command runs, or a params function with the user's own, too.

        A file of the user's own counts for the jobs that run it: a class for its dataset, where
        networks are made; levels for their method, where they are chosen.
        """
        modules = imported_modules(module_of(command))
        classes = self.classes if "models.custom" in modules else {}
        functions = self.functions if "quantization.own_levels" in modules else {}
        if not (classes or functions):
            return digest(command)

        def code(wildcards: Wildcards) -> str:
            own = (
                classes.get(getattr(wildcards, "dataset", "")),
                functions.get(getattr(wildcards, "method", "")),
            )
            found = [content_digest(name) for name in own if name is not None]
            return " ".join([digest(command), *filter(None, found)])

        return code

    def preset(self, wildcards: Wildcards) -> Preset:
        """The preset of the wildcards' dataset."""
        return self.presets[wildcards.dataset]

    def training_seed(self, wildcards: Wildcards) -> int:
        """The seed of training of the wildcards' model."""
        return Training.parse(wildcards.training).seed

    def checkpoints(self, wildcards: Wildcards) -> Words:
        """The files of the published checkpoint to import, where there is one."""
        checkpoint = self.preset(wildcards).checkpoint
        return [str(path) for path in checkpoint_files(Path(checkpoint.path))] if checkpoint else []

    def checkpoint_options(self, wildcards: Wildcards) -> Words:
        """The published checkpoint to import, and which of its weights."""
        checkpoint = self.preset(wildcards).checkpoint
        if checkpoint is None:
            return []
        words = [f"--checkpoint={checkpoint.path}"]
        return words + ([f"--weights={checkpoint.weights}"] if checkpoint.weights else [])

    def decoders(self, wildcards: Wildcards) -> int:
        """Processes to decode images with: one where there is nothing to decode."""
        return 16 if self.kind(wildcards) in ("celeba", "images") else 1

    def published(self, wildcards: Wildcards) -> Path:
        """The published results to plot beside a metric's; a path, which makes nothing stale."""
        name = "downstream" if wildcards.metric == "accuracy" else "samples_evaluation"
        return self.source / "results" / "published" / f"{name}_results.json"

    @property
    def swept(self) -> list[str]:
        """The variants that a sweep compares."""
        return list(self.configuration.sweep.variants or self.variants)

    def samples(self, wildcards: Wildcards) -> int:
        """How many images each variant samples of each seed."""
        return self.preset(wildcards).samples

    def _section(self, wildcards: Wildcards, part: str) -> Any:
        if part == "refine":
            return self.methods[wildcards.method].refine
        return getattr(self.preset(wildcards), part)

    def per_device(self, part: str, amount: int) -> Callable[[Wildcards], int] | int:
        """A resources function: so much for each device of training, sampling or refine."""
        if {devices for _, devices in self.devices()} == {1}:
            return amount  # a function would be called for each of thousands of jobs
        return lambda wildcards: amount * self._section(wildcards, part).devices

    def devices(self) -> Iterable[tuple[str, int]]:
        """Each key that says on how many devices a job computes, and what it says."""
        for name, preset in self.presets.items():
            if name in self.trained:
                yield f"presets.{name}.training.devices", preset.training.devices
            yield f"presets.{name}.sampling.devices", preset.sampling.devices
        for name, row in self.methods.items():
            if row.refine is not None:
                yield f"methods.{name}.refine.devices", row.refine.devices

    def memory(self, megabytes: int, part: str | None = None) -> Callable[[Wildcards, int], int]:
        """A resources function: so much, for each device of ``part`` if it is given.

        A retry asks for as much again: Slurm may have ended the attempt before for its memory.
        """

        def asked(wildcards: Wildcards, attempt: int) -> int:
            devices = self._section(wildcards, part).devices if part else 1
            return megabytes * devices * attempt

        return asked

    def kind(self, wildcards: Wildcards) -> str:
        """The kind of a dataset's source."""
        return self.preset(wildcards).source.kind

    def source_options(self, wildcards: Wildcards) -> Words:
        """Where images come from, and what they must be."""
        preset = self.preset(wildcards)
        source = preset.source
        if isinstance(source, ImagesSource) and source.least_side is None:
            source = replace(source, least_side=preset.network.cell)
        return [
            *options("source", type(source), source),
            *options("image", ImageConfig, preset.image),
            *self.condition_options(wildcards),
        ]

    def condition_options(self, wildcards: Wildcards) -> Words:
        """What labels are."""
        return options("condition", ConditionConfig, self.preset(wildcards).condition)

    def model_options(self, wildcards: Wildcards) -> Words:
        """What a model is: all that its weights need to become a flow."""
        return options("model", ModelConfig, self.preset(wildcards))

    def training_options(self, wildcards: Wildcards) -> Words:
        """How a network is trained."""
        return options("training", TrainingConfig, self.preset(wildcards).training)

    def sampling_options(self, wildcards: Wildcards) -> Words:
        """How images are sampled."""
        return options("sampling", SamplingConfig, self.preset(wildcards).sampling)

    def check_options(self, wildcards: Wildcards) -> Words:
        """What only the networks can tell of a preset."""
        preset = self.preset(wildcards)
        levels_of = self.configuration.plot.levels_of
        words = [f"--levels-of={levels_of}"] if levels_of else []
        if self.functions:
            words += ["--own-levels", *dict.fromkeys(self.functions.values())]
        if self.peers:
            programs = (str(self._program(row.peer)) for row in self.peers.values())
            words += ["--peers", *dict.fromkeys(programs)]
        words += self.checkpoint_options(wildcards)
        if preset.classifier:
            words.append(f"--architecture={preset.classifier.architecture}")
        return words + self.model_options(wildcards) + self.training_options(wildcards)

    def benchmark_options(self, wildcards: Wildcards) -> Words:
        """What a benchmark samples and looks at, and how long it measures."""
        preset = self.preset(wildcards)
        architecture = (preset.classifier or ClassifierConfig(epochs=1)).architecture
        return [
            *options("solver", SolverConfig, preset.sampling),
            f"--images={preset.samples}",
            f"--extractor={self.extractor}",
            # They count if they are at hand, as no input.
            f"--weights={self.extractor_weights(wildcards)}",
            f"--architecture={architecture}",
            f"--seconds={self.configuration.benchmark.seconds}",
        ]

    def sweep_options(self, wildcards: Wildcards) -> Words:
        """What a sweep compares, and what all its samples share."""
        sampling = self.preset(wildcards).sampling
        return options("settings", SweepConfig, self.configuration.sweep, sampling)

    def classifier_options(self, wildcards: Wildcards) -> Words:
        """What a classifier looks at, and how it is trained."""
        preset = self.preset(wildcards)
        return [
            *options("image", ImageConfig, preset.image),
            *self.condition_options(wildcards),
            *options("settings", ClassifierConfig, preset.classifier),
        ]

    def reference_accuracies(self, datasets: Iterable[str]) -> Words:
        """What classifiers of these datasets, which have one, should come near to."""
        found = (self.presets[name].classifier for name in datasets)
        return [str(classifier.reference_accuracy) for classifier in found if classifier]

    def method_options(self, wildcards: Wildcards) -> Words:
        """What a method does to a tensor; its widths are wildcards of their own."""
        return options("", MethodConfig, self.methods[wildcards.method])

    def program(self, wildcards: Wildcards) -> Path:
        """The program of a peer; a path, which makes nothing stale."""
        return self._program(self.peers[wildcards.method].peer)

    def _program(self, peer: str) -> Path:
        if peer not in KNOWN:
            return Path(peer)
        path, here = self.source / f"workflow/peers/by_{peer}.py", Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path

    def peer_code(self, wildcards: Wildcards) -> str:
        """A hash of the code that a peer's job runs: the stage's, its program's and what is shared
        with others."""
        program = self.program(wildcards)
        files = [program, *program.parent.glob("program.py")]
        return " ".join([digest("quantize_peer"), *(sha256(file)[:16] for file in files)])

    def peer_options(self, wildcards: Wildcards) -> Words:
        """What a peer is told; its widths are wildcards of their own."""
        return options("settings", PeerConfig, self.peers[wildcards.method])

    def hessians(self, wildcards: Wildcards) -> dict[str, str]:
        """The file of Hessians that a method needs, if it compensates; methods share points."""
        settings = self.methods[wildcards.method].compensate
        if settings is None:
            return {}
        name = f"{settings.source}_{settings.points}.safetensors"
        model = f"{wildcards.dataset}{wildcards.training}"
        return {"hessians": f"results/{self.name}/hessians/{model}/{name}"}

    def compensation_options(self, wildcards: Wildcards) -> Words:
        """How a method compensates, if it does."""
        settings = self.methods[wildcards.method].compensate
        return options("compensate", CompensationConfig, settings) if settings else []

    def refine_options(self, wildcards: Wildcards) -> Words:
        """How a quantized model is refined."""
        return options("settings", RefineConfig, self.methods[wildcards.method].refine)

    @property
    def comparisons_options(self) -> Words:
        """Which variants are compared, and which methods are the paper's and peers'."""
        papers = [name for name, row in self.methods.items() if row.of_the_paper]
        words = options("settings", ComparisonsSection, self.configuration.comparisons)
        return [*words, "--papers", *papers, "--peers", *self.peers]

    def sensitivity_options(self, wildcards: Wildcards) -> Words:
        """How sensitivity is measured."""
        sensitivity = self.methods[wildcards.method].sensitivity
        return options("trials", type(sensitivity), sensitivity)

    def extractor_weights(self, wildcards: Wildcards, name: ExtractorName | None = None) -> str:
        """The weights of an extractor: this one, that which a rule names, or the first."""
        extractor = getattr(wildcards, "extractor", self.extractor) if name is None else name
        if extractor == "classifier":
            return f"results/{self.name}/classifiers/{wildcards.dataset}.safetensors"
        said = self.configuration.evaluation.weights.get(extractor)
        return (said and said.path) or f"results/data/{extractor}.pth"

    def compares(self, wildcards: Wildcards) -> bool:
        """Whether the samples of a variant are compared with those of full precision."""
        return self.configuration.fidelity is not None and wildcards.variant in self.quantized

    def score_options(self, wildcards: Wildcards) -> Words:
        """By what samples are scored, and if they are, how compared with full precision's."""
        words = options("metrics", MetricsConfig, self.configuration.evaluation.metrics)
        if self.compares(wildcards):
            words += options("fidelity", FidelityConfig, self.configuration.fidelity)
        return ["--extractors", *sorted(self.extractors), *words]

    def weights_options(self, wildcards: Wildcards) -> Words:
        """Where the weights of an extractor come from, in place of where they are published."""
        said = self.configuration.evaluation.weights.get(wildcards.extractor, WeightsConfig())
        words = ["--urls", *said.urls] if said.urls else []
        return words + ([f"--sha256={said.sha256}"] if said.sha256 else [])
