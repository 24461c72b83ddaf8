"""The table holds every row once, whatever kills its writer, and is cut back with TensorBoard's events."""

import csv
import os
from pathlib import Path

import pytest

from mnist_lit.runs.loggers import ResumableCSVLogger, log_lengths, truncate_logs


def rows(run: Path) -> list[dict[str, str]]:
    with run.joinpath("metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_column_leaves_the_rows_before_it_as_they_were(tmp_path: Path) -> None:
    table = ResumableCSVLogger(tmp_path)
    table.log_metrics({"a": 1.5}, 0)
    table.save()
    table.log_metrics({"a": 2.5, "b": 0.1}, 1)
    table.finalize("success")
    assert rows(tmp_path) == [{"a": "1.5", "b": "", "step": "0"}, {"a": "2.5", "b": "0.1", "step": "1"}]


def test_a_table_that_was_there_goes_on(tmp_path: Path) -> None:
    for step in range(3):
        table = ResumableCSVLogger(tmp_path)
        table.log_metrics({"a": 0.5, "b": 1.0}, step)
        table.save()
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]
    assert tmp_path.joinpath("metrics.csv").read_text().count("step") == 1


def test_a_hundred_rows_are_written_without_being_asked(tmp_path: Path) -> None:
    table = ResumableCSVLogger(tmp_path)
    for step in range(ResumableCSVLogger.EVERY):
        table.log_metrics({"a": 1.0}, step)
    assert len(rows(tmp_path)) == ResumableCSVLogger.EVERY


def test_a_kill_while_a_column_is_added_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ResumableCSVLogger(tmp_path)
    table.log_metrics({"a": 1.0}, 0)
    table.save()
    before = tmp_path.joinpath("metrics.csv").read_bytes()

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    table.log_metrics({"b": 1.0}, 1)
    with pytest.raises(KeyboardInterrupt):
        table.save()
    assert tmp_path.joinpath("metrics.csv").read_bytes() == before


def test_files_are_cut_to_what_they_were_and_unknown_ones_removed(tmp_path: Path) -> None:
    table, events = ResumableCSVLogger(tmp_path), tmp_path / "events.out.tfevents.1"
    table.log_metrics({"a": 1.0}, 0)
    table.save()
    events.write_bytes(b"first")
    then = log_lengths(tmp_path)
    assert then == {"metrics.csv": 1, "events.out.tfevents.1": 5}
    table.log_metrics({"a": 2.0, "b": 3.0}, 1)
    table.save()
    events.write_bytes(b"first and more")
    tmp_path.joinpath("events.out.tfevents.2").write_bytes(b"later")
    truncate_logs(tmp_path, then)
    assert rows(tmp_path) == [{"a": "1.0", "b": "", "step": "0"}]
    assert events.read_bytes() == b"first"
    assert {path.name for path in tmp_path.iterdir()} == {"events.out.tfevents.1", "metrics.csv"}
    truncate_logs(tmp_path, {})
    assert not any(tmp_path.iterdir())
