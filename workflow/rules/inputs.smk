"""What jobs need that depends on their wildcards, and what they are told of it."""


def weights_of(wildcards):
    """The weights of a variant, full precision or quantized."""
    if wildcards.variant == "full":
        return MODEL.format(**wildcards)
    return PACKED.format(**wildcards)


def sampled_from(wildcards):
    """The weights to sample with, and the dataset if its test images say what to sample."""
    files = {"model": weights_of(wildcards)}
    if RUN.preset(wildcards).sampling.condition == "test":
        files["data"] = f"results/data/{wildcards.dataset}.safetensors"
    return files


def sampled_attributes(wildcards, input):
    """The dataset as an option, where it says what to sample."""
    return [f"--data={input.data}"] if input.get("data") else []


def scored_from(wildcards):
    """Samples, and what they are scored by.

    Features of real images and weights of every extractor; the classifier, if the dataset has one;
    the models and full precision's samples, if fidelity is measured.
    """
    files = {
        "samples": IMAGES.format(**wildcards),
        "real": [
            rules.real_features.output[0].format(extractor=name, **wildcards)
            for name in sorted(RUN.extractors)
        ],
        "weights": [
            RUN.extractor_weights(wildcards, name) for name in sorted(RUN.extractors)
        ],
    }
    if wildcards.dataset in RUN.classified and wildcards.variant != "real":
        classifier = rules.classifier.output.classifier
        files["classifier"] = classifier.format(**wildcards)
    if RUN.compares(wildcards):
        files["model"] = MODEL.format(**wildcards)
        files["quantized"] = PACKED.format(**wildcards)
        files["model_samples"] = IMAGES.format(**{**wildcards, "variant": "full"})
    return files


def scored_by(wildcards, input):
    """The classifier, and the models to compare, as options."""
    names = ("classifier", "model", "quantized", "model_samples")
    return [
        f"--{name.replace('_', '-')}={input[name]}" for name in names if input.get(name)
    ]


def curves(wildcards):
    """The curves of a dataset's training, if it was trained here, and of all refinements."""
    trained = wildcards.dataset in RUN.trained
    return {
        "training": [f"<run>/models/{wildcards.dataset}{FIRST}_training.jsonl"]
        * trained,
        "refinements": [
            f"<run>/quantized_models/{wildcards.dataset}{FIRST}/{variant}_refinement.jsonl"
            for variant in REFINED
        ],
    }


def hessians_option(wildcards, input):
    """The Hessians as an option, where a method compensates.

    A parameter of its own: one that is made of inputs makes no job stale.
    """
    return [f"--hessians={input.hessians}"] if input.get("hessians") else []


def to_measure(wildcards):
    """What measuring the sensitivity to a method needs: also Hessians, if it compensates."""
    files = {"model": MODEL, "data": rules.dataset.output[0]} | RUN.hessians(wildcards)
    return {name: path.format(**wildcards) for name, path in files.items()}


def to_quantize(wildcards):
    """What quantizing a variant needs: the model, and widths where they are mixed."""
    files = {"model": MODEL} | RUN.hessians(wildcards)
    if wildcards.method in RUN.mixed:
        files["allocation"] = rules.allocate.output[0]
    return {name: path.format(**wildcards) for name, path in files.items()}


def width_options(wildcards, input):
    """A variant's width, or the file with the widths of its tensors."""
    if wildcards.method in RUN.mixed:
        return [f"--allocation={input.allocation}"]
    return [f"--bits={wildcards.bits}"]
