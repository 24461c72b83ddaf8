"""Files become rows: each file has at least one, whatever is wrong with it."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_lit.inference import workers
from mnist_lit.inference.predict import CSV_HEADER, Row, expand_paths, is_table, read_files, to_csv, to_jsonl
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
    return [row for rows in read_files(reader, files, many=False) for row in rows]


def test_each_file_has_rows_in_the_order_given(reader: DigitReader) -> None:
    draw_one("one.png")
    Image.new("L", (40, 30), 250).save("blank.png")
    files = ["one.png", "missing.png", "blank.png", "one.png"]
    for many in (False, True):
        rows = list(read_files(reader, files, many=many))
        assert [[row.file for row in of_file] for of_file in rows] == [[file] for file in files]
        assert [of_file[0].status for of_file in rows] == ["ok", "error", "rejected", "ok"]


@pytest.mark.parametrize("in_processes", [False, True])
def test_each_row_has_the_digit_of_its_own_picture(
    reader: DigitReader, monkeypatch: pytest.MonkeyPatch, *, in_processes: bool
) -> None:
    strokes = {"1": [(50, 20), (42, 140)], "7": [(15, 25), (80, 25), (42, 140)], "4": [(30, 20), (15, 90), (75, 90)]}
    for digit, stroke in strokes.items():
        image = Image.new("L", (90, 160), 235)
        ImageDraw.Draw(image).line(stroke, fill=20, width=9)
        ImageDraw.Draw(image).line([(55, 60), (50, 145)] * (digit == "4"), fill=20, width=9)
        image.save(f"{digit}.png")
    monkeypatch.setattr(workers, "CHUNK_SIZE", 4)  # the last one has two files
    monkeypatch.setattr(workers, "MIN_CHUNKS", 1 if in_processes else 9)
    digits = ["1", "7", None, "4", "7", "4", "1", "1", None, "7", "7", "1", "4", "7"]
    rows = rows_of(reader, [f"{digit or 'missing'}.png" for digit in digits])
    assert [row.cells()["digit"] for row in rows] == digits


def test_every_row_says_where_its_digit_is(reader: DigitReader) -> None:
    draw_one("one.png")
    one, missing = (row.cells() for row in rows_of(reader, ["one.png", "missing.png"]))
    assert (one["line"], one["column"], one["digit"]) == (1, 1, "1")
    assert missing["line"] is missing["column"] is missing["digit"] is None


def test_what_the_network_sees_of_a_page_is_shown_line_by_line(reader: DigitReader) -> None:
    page = Image.new("L", (300, 400), 235)
    for left, top in ((50, 30), (150, 30), (50, 240)):
        ImageDraw.Draw(page).line([(left, top), (left - 8, top + 120)], fill=20, width=9)
    page.save("page.png")
    shown: list[Path] = []
    ((*rows,),) = read_files(reader, ["page.png"], many=True, shown=shown)
    images = [row.reading.image for row in rows if row.reading]
    with Image.open(shown[0]) as seen:
        assert seen.size == (448, 448)
        small = np.asarray(seen)[::8, ::8]
    for place, image in zip((np.s_[:28, :28], np.s_[:28, 28:], np.s_[28:, :28]), images, strict=True):
        assert np.array_equal(small[place], image)
    assert not small[28:, 28:].any()


def test_a_reading_that_leaves_digits_out_says_how_to_read_them(reader: DigitReader) -> None:
    draw_one("one.png")
    (row,) = rows_of(reader, ["one.png"])
    assert row.message == ""
    assert row.reading
    assert Row("a.png", row.reading._replace(message="3 digits found")).message == (
        "3 digits found; use --many to read them all"
    )


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
    (line,) = csv.reader(to_csv(rows).splitlines())
    assert (line[0], line[-1]) == (f"'{start}cmd.png", f"'{start}message")
    assert json.loads(to_jsonl(rows))["file"] == f"{start}cmd.png"


def test_tables_are_told_from_other_files() -> None:
    rows = [Row("a.png", None, "message")]
    tables = {".csv": CSV_HEADER + to_csv(rows), ".jsonl": to_jsonl(rows)}
    for suffix, text in tables.items():
        for cut in (text.splitlines(keepends=True)[0], text):
            assert is_table(cut.encode(), suffix)
        for other in (
            "file,digit\n",
            '{"file": "a.png"}\n',
            "[" * 60_000,
            "\ufeff",
            "3",
            *({*tables.values()} - {text}),
        ):
            assert not is_table(other.encode(), suffix)


def test_folders_stand_for_their_pictures() -> None:
    for path in ("folder/b.JPG", "folder/inner/a.png", "folder/notes.txt", "folder/a.png.seen.png"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    Path("empty").mkdir()
    expected = ["empty", "folder/b.JPG", "folder/inner/a.png", "missing.png"]
    assert list(expand_paths(["empty", "folder", "missing.png"])) == expected
    assert list(expand_paths(["a.png", "a.png.seen.png", "b.png.seen.png"])) == [
        "a.png",
        "b.png.seen.png",
    ]  # a wildcard
