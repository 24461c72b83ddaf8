"""`metrics.csv` holds every row once, whenever its writer is killed, and is truncated with TensorBoard's events."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_lit.errors import InputError
from mnist_lit.runs.loggers import ResumableCSVLogger, log_lengths, truncate_logs
from mnist_lit.system.csv_file import read_csv


def rows(run: Path) -> list[dict[str, str]]:
    return list(read_csv(run / "metrics.csv"))


def test_a_new_column_keeps_the_earlier_rows(tmp_path: Path) -> None:
    logger = ResumableCSVLogger(tmp_path)
    logger.log_metrics({"a": 1.5}, 0)
    logger.save()
    logger.log_metrics({"a": 2.5, "b": 0.1}, 1)
    logger.finalize("success")
    assert rows(tmp_path) == [{"a": "1.5", "b": "", "step": "0"}, {"a": "2.5", "b": "0.1", "step": "1"}]


def test_a_file_that_is_no_table_is_an_error_in_one_line(tmp_path: Path) -> None:
    tmp_path.joinpath("metrics.csv").write_text("step\n" + "9" * 200_000)
    with pytest.raises(InputError, match=r"metrics.csv is not the table that this run wrote \(field larger"):
        truncate_logs(tmp_path, {"metrics.csv": 1})


def test_an_existing_table_is_continued(tmp_path: Path) -> None:
    for step in range(3):
        logger = ResumableCSVLogger(tmp_path)
        logger.log_metrics({"a": 0.5, "b": 1.0}, step)
        logger.save()
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]
    assert tmp_path.joinpath("metrics.csv").read_text().count("step") == 1


def test_a_full_buffer_is_written(tmp_path: Path) -> None:
    logger = ResumableCSVLogger(tmp_path)
    for step in range(ResumableCSVLogger.BUFFERED_ROWS):
        logger.log_metrics({"a": 1.0}, step)
    assert len(rows(tmp_path)) == ResumableCSVLogger.BUFFERED_ROWS


def test_a_kill_while_a_column_is_added_keeps_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = ResumableCSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    before = tmp_path.joinpath("metrics.csv").read_bytes()

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    logger.log_metrics({"b": 1.0}, 1)
    with pytest.raises(KeyboardInterrupt):
        logger.save()
    assert tmp_path.joinpath("metrics.csv").read_bytes() == before


def test_logs_are_truncated_and_unknown_ones_removed(tmp_path: Path) -> None:
    logger, events = ResumableCSVLogger(tmp_path), tmp_path / "events.out.tfevents.1"
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    events.write_bytes(b"first")
    then = log_lengths(tmp_path)
    assert then == {"metrics.csv": 1, "events.out.tfevents.1": 5}
    logger.log_metrics({"a": 2.0, "b": 3.0}, 1)
    logger.save()
    events.write_bytes(b"first and more")
    tmp_path.joinpath("events.out.tfevents.2").write_bytes(b"later")
    truncate_logs(tmp_path, then)
    assert rows(tmp_path) == [{"a": "1.0", "b": "", "step": "0"}]
    assert events.read_bytes() == b"first"
    assert {path.name for path in tmp_path.iterdir()} == {"events.out.tfevents.1", "metrics.csv"}
    truncate_logs(tmp_path, {})
    assert not any(tmp_path.iterdir())


def test_the_bytes_of_the_table_are_fixed(tmp_path: Path) -> None:
    logger = ResumableCSVLogger(tmp_path)
    logger.log_metrics({"b": 1e-05, "a": 1}, 0)
    logger.save()
    logger.log_metrics({"c,": float("nan")}, None)
    logger.save()
    logger.log_metrics({"a": 0.1}, 2)
    logger.save()
    assert tmp_path.joinpath("metrics.csv").read_bytes() == b'a,b,"c,",step\r\n1,1e-05,,0\r\n,,nan,\r\n0.1,,,2\r\n'


def test_a_callbacks_own_metric_is_a_number_in_one_row(tmp_path: Path) -> None:
    logger = ResumableCSVLogger(tmp_path)
    logger.log_metrics({"my\r\nscore": torch.tensor(1.5), "count": np.int64(3), "epoch": 0}, 0)  # type: ignore[dict-item]
    logger.save()
    assert rows(tmp_path) == [{"my score": "1.5", "count": "3", "epoch": "0", "step": "0"}]
    assert log_lengths(tmp_path) == {"metrics.csv": 1}


def test_a_damaged_byte_does_not_stop_a_run_from_resuming(tmp_path: Path) -> None:
    tmp_path.joinpath("metrics.csv").write_bytes(b"a,step\r\n\xff,0\r\n1,1\r\n")
    assert log_lengths(tmp_path) == {"metrics.csv": 2}
    truncate_logs(tmp_path, {"metrics.csv": 1})
    assert [row["step"] for row in rows(tmp_path)] == ["0"]


def test_rows_are_counted_without_parsing_them(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_bytes(b"step\r\n" + b"9" * 200_000 + b"\r\n")  # more than the csv module reads in one cell
    assert log_lengths(tmp_path) == {"metrics.csv": 1}
    table.write_bytes(b"")
    assert log_lengths(tmp_path) == {"metrics.csv": 0}
