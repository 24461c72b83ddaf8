"""What is written is read back."""

from pathlib import Path

import pytest

from mnist_lit.system.csv_file import csv_text, read_csv, read_csv_rows


def test_rows_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [["name", "text"], ["é", 'a,"b"\nc'], ["", ""]]
    path.write_bytes(csv_text(rows).encode())
    assert read_csv_rows(path) == rows
    assert read_csv(path) == [{"name": "é", "text": 'a,"b"\nc'}, {"name": "", "text": ""}]


def test_a_damaged_byte_is_an_error_unless_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\r\n\xff\r\n")
    for read in (read_csv, read_csv_rows):
        with pytest.raises(UnicodeDecodeError):
            read(path)
    assert read_csv_rows(path, errors="replace") == [["a"], ["\ufffd"]]
