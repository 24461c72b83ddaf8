"""What is written is read back."""

import csv
from pathlib import Path

import pytest

from mnist_lit.system.csv_file import csv_text, read_csv, read_csv_rows


def test_rows_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [["name", "text"], ["é", 'a,"b"\nc'], ["", ""]]
    path.write_bytes(csv_text(rows).encode())
    assert read_csv_rows(path) == rows
    assert list(read_csv(path)) == [{"name": "é", "text": 'a,"b"\nc'}, {"name": "", "text": ""}]


def test_a_damaged_byte_is_an_error_unless_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\r\n\xff\r\n")
    for read in (read_csv, read_csv_rows):
        with pytest.raises(UnicodeDecodeError):
            read(path)
    assert read_csv_rows(path, errors="replace") == [["a"], ["\ufffd"]]


@pytest.mark.parametrize(("name", "limit"), [("MAX_BYTES", 14), ("MAX_ROWS", 3), ("MAX_CELLS", 2)])
def test_a_table_larger_than_any_that_is_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\r\n\r\n1,2,3\r\n")
    monkeypatch.setattr(f"mnist_lit.system.csv_file.{name}", limit + 1)
    assert len(list(read_csv(path))) == 1
    monkeypatch.setattr(f"mnist_lit.system.csv_file.{name}", limit - 1)
    with pytest.raises(csv.Error, match="more than"):
        read_csv(path)
