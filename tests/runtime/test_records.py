"""Snakemake's records lie beside the results."""

from pathlib import Path

from flowquant.runtime.records import NAME, keep_records


def test_records_move_and_stay(tmp_path: Path) -> None:
    records, results = tmp_path / ".snakemake/metadata", tmp_path / "results"
    (records / "@long").mkdir(parents=True)
    (records / "@long" / "name").write_text("a record")
    for _ in range(2):
        keep_records(results, records)
        assert records.is_symlink()
        assert (records / "@long" / "name").read_text() == "a record"
        assert (results / NAME / "@long" / "name").is_file()


def test_deleted_results_leave_no_broken_link(tmp_path: Path) -> None:
    records, results = tmp_path / ".snakemake/metadata", tmp_path / "results"
    keep_records(results, records)
    (results / NAME).rmdir()
    results.rmdir()
    keep_records(results, records)
    assert records.is_dir()


def test_where_nothing_can_be_written_all_stays(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("no folder")
    keep_records(tmp_path / "results", tmp_path / ".snakemake/metadata")
    assert not (tmp_path / ".snakemake").exists()
