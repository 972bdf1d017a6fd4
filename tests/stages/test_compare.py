"""Comparisons of a run's results, as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from flowquant.config.comparisons import ComparisonsSection
from flowquant.config.extractors import ExtractorName
from flowquant.report.results import Size
from flowquant.report.tables import read_results, write_table
from flowquant.report.tidy import COLUMNS, observations
from flowquant.runtime.errors import UserError
from flowquant.stages.compare import compare
from scored import scored, scores

FIDS = {"real": 0.5, "full": 1.0, "ot/2bit": 30.0, "refined/2bit": 3.0}


def written(folder: Path, name: str, content: dict[str, object]) -> Path:
    path = folder / f"{name.replace('/', '_')}.json"
    path.write_text(json.dumps(content))
    return path


def test_a_table_of_all_pairs(tmp_path: Path) -> None:
    extractors: tuple[ExtractorName, ...] = ("inception-v3-compat", "classifier")
    files = tuple(
        written(
            tmp_path,
            f"{dataset}_{variant}_{seed}",
            scores(*(scored(fid, extractor=extractor) for extractor in reversed(extractors)))
            | {"dataset": dataset, "variant": variant, "training_seed": 0, "seed": seed, "n": 9},
        )
        for dataset in ("mnist", "digits")
        for variant, fid in FIDS.items()
        for seed in (0, 1)
    )
    sizes = [
        written(
            tmp_path,
            f"{dataset}_{variant}_size",
            {"dataset": dataset, "variant": variant, "effective_bits": bits, "bytes": 1000},
        )
        for dataset in ("mnist", "digits")
        for variant, bits in (("full", 32.0), ("ot/2bit", 2.2), ("refined/2bit", 2.1))
    ]
    results, output = tmp_path / "results.csv", tmp_path / "comparisons.csv"
    observed = observations([], sizes=read_results(sizes, Size))
    write_table(results, COLUMNS, observed)
    table = tmp_path / "comparisons.md"

    def run() -> None:
        compare(files, extractors, results, output, table, ComparisonsSection(), papers=("ot",))

    run()
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [(row["dataset"], row["extractor"], row["variant"], row["other"]) for row in rows] == [
        (dataset, extractor, *pair)
        for dataset in ("mnist", "digits")
        for extractor in extractors
        for pair in (("ot/2bit", "full"), ("refined/2bit", "full"), ("refined/2bit", "ot/2bit"))
    ]
    assert {row["over"] for row in rows} == {"samples and sampling seeds"}
    assert table.read_text().count("## ") == 4

    write_table(results, COLUMNS, [row | {"version": "9"} for row in observed])
    with pytest.raises(UserError, match="results of version '9'"):
        run()
    with pytest.raises(UserError, match=r"_0.json: found no scores by clip-vit-b-32"):
        compare(files, ("clip-vit-b-32",), results, output, table, ComparisonsSection())
