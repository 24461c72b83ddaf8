"""Files become rows: each file has at least one, whatever is wrong with it."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mnist_lit.imaging.mnist_format import FoundDigit, find_digit
from mnist_lit.inference.predict import BATCH_SIZE, Row, expand_paths, read_rows, to_csv, to_jsonl
from mnist_lit.inference.reader import DigitReader


@pytest.fixture(scope="module")
def reader() -> DigitReader:
    return DigitReader.load("pretrained")


def draw_one(path: str) -> None:
    """Save a picture of a one."""
    image = Image.new("L", (90, 160), 235)
    ImageDraw.Draw(image).line([(50, 20), (42, 140)], fill=20, width=9)
    image.save(path)


def rows_of(reader: DigitReader, files: Sequence[str]) -> list[Row]:
    return list(read_rows(reader, files, many=False, show=False))


def test_a_bad_file_does_not_cost_the_others_their_rows(reader: DigitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_one("one.png")
    Image.new("L", (33, 33)).save("strange.png")
    os.mkfifo("pipe.png")

    def failing(picture: Image.Image) -> FoundDigit | None:
        if picture.size == (33, 33):
            raise MemoryError
        return find_digit(picture)

    monkeypatch.setattr("mnist_lit.inference.predict.find_digit", failing)
    rows = rows_of(reader, ["strange.png", "pipe.png", "x" * 5000 + ".png", "one.png"])
    assert [row.reading is None for row in rows] == [True, True, True, False]
    assert rows[0].message == "could not be read (MemoryError)"
    assert rows[1].message == "expected a picture, got a device or a pipe"


def test_more_files_than_a_batch_keep_their_order(reader: DigitReader) -> None:
    draw_one("one.png")
    files = ["one.png" if index % 2 else "missing.png" for index in range(BATCH_SIZE + 2)]
    rows = rows_of(reader, files)
    assert [row.file for row in rows] == files
    assert [row.reading is None for row in rows] == [file == "missing.png" for file in files]


def test_names_that_are_not_utf_8_can_be_written(reader: DigitReader) -> None:
    name = os.fsdecode(b"\xff.png")
    draw_one("one.png")
    Path("one.png").rename(name)
    rows = rows_of(reader, [name, name + "missing"])
    for text in (to_csv(rows), to_jsonl(rows)):
        assert text.encode().decode().count("\N{REPLACEMENT CHARACTER}.png") >= 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_csv_cell_is_a_formula(start: str) -> None:
    rows = [Row(start + "cmd.png", None, start + "message")]
    _, line = csv.reader(to_csv(rows).splitlines())
    assert (line[0], line[-1]) == (f"'{start}cmd.png", f"'{start}message")
    assert json.loads(to_jsonl(rows))["file"] == f"{start}cmd.png"


def test_folders_stand_for_their_pictures() -> None:
    for path in ("folder/b.JPG", "folder/inner/a.png", "folder/notes.txt", "folder/a.png.seen.png"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    Path("empty").mkdir()
    expected = ["empty", "folder/b.JPG", "folder/inner/a.png", "missing.png"]
    assert list(expand_paths(["empty", "folder", "missing.png"])) == expected
