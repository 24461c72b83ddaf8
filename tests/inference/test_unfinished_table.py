"""A killed command's table continues after its last saved file; other commands' rows never get into it."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.errors import InputError
from mnist_lit.inference import unfinished_table
from mnist_lit.inference.unfinished_table import PROGRESS, ROWS, UnfinishedTable

FILES = ["a.png", "b.png", "c.png"]
PART = Path("rows.csv.part")


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., UnfinishedTable]:
    """Open the table of a command that saves after every file."""
    monkeypatch.setattr(unfinished_table, "SAVE_SECONDS", 0)

    def start(files: list[str] = FILES, **settings: Any) -> UnfinishedTable:
        return UnfinishedTable(Path("rows.csv"), files, {"model": "m", "mode": "one", **settings}, "header\n")

    return start


def add(table: UnfinishedTable, *files: str) -> None:
    for file in files:
        table.add(file, f"{file} é\n", ["ok", "error"][file == "b.png" :][:1])


def test_an_interrupted_table_ends_like_an_uninterrupted_one(begin: Callable[..., UnfinishedTable]) -> None:
    for cut in range(len(FILES) + 1):
        table = begin()
        add(table, *FILES[:cut])
        assert table.saved() == cut
        table.close()
        if cut:
            with PART.joinpath(ROWS).open("ab") as rows:
                rows.write(b"half a r")  # written after the last save
        table = begin()
        assert table.done == cut
        add(table, *FILES[cut:])
        table.finish()
        assert Path("rows.csv").read_text(encoding="utf-8") == "header\na.png é\nb.png é\nc.png é\n"
        assert table.counts == {"ok": 2, "error": 1}
        assert not PART.exists()


def test_the_output_is_complete_or_as_it_was(begin: Callable[..., UnfinishedTable]) -> None:
    Path("rows.csv").write_text("older\n", encoding="utf-8")
    table = begin()
    add(table, *FILES)
    assert Path("rows.csv").read_text(encoding="utf-8") == "older\n"
    table.finish()
    assert Path("rows.csv").read_text(encoding="utf-8").startswith("header\na.png")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "other"}, "another model;"),
        ({"mode": "many", "model": "other"}, "another model and mode;"),
        ({"files": ["a0.png", *FILES]}, "another list of pictures;"),
    ],
)
def test_another_commands_rows_are_never_continued(
    begin: Callable[..., UnfinishedTable], changed: dict[str, Any], message: str
) -> None:
    table = begin()
    add(table, "a.png")
    table.close()
    with pytest.raises(InputError, match=message):
        begin(**changed)
    table = begin(files=[*FILES, "d.png"])  # further files may have come
    assert table.done == 1
    table.close()


def test_two_commands_cannot_write_one_table(begin: Callable[..., UnfinishedTable]) -> None:
    table = begin()
    with pytest.raises(InputError, match="another process"):
        begin()
    table.close()
    begin().close()


def test_damage_is_reported_in_one_line(begin: Callable[..., UnfinishedTable]) -> None:
    table = begin()
    add(table, "a.png")
    table.close()
    record = PART.joinpath(PROGRESS).read_bytes()
    for name, content in itertools.product((PROGRESS, ROWS), (b"", b"[]")):
        PART.joinpath(PROGRESS).write_bytes(record)
        PART.joinpath(name).write_bytes(content)
        with pytest.raises(InputError, match=r"rows\.csv\.part is damaged; delete it to start again"):
            begin()


@pytest.mark.parametrize(
    "changed",
    [
        "[" * 100_000,
        {"done": float("inf")},
        {"done": -1},
        {"bytes": -1},
        {"bytes": True},
        {"bytes": 1e300},
        {"counts": {"ok": "x"}},
        {"counts": {"\x1b[2J": 1}},
        {"counts": [["ok", 1]]},
    ],
)
def test_a_record_that_nobody_wrote_is_damage(begin: Callable[..., UnfinishedTable], changed: Any) -> None:
    table = begin()
    add(table, "a.png")
    table.close()
    record = PART / PROGRESS
    text = changed if isinstance(changed, str) else json.dumps(json.loads(record.read_bytes()) | changed)
    record.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.csv\.part is damaged; delete it to start again"):
        begin()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", [PROGRESS, ROWS])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_are_damage(begin: Callable[..., UnfinishedTable], name: str, kind: str) -> None:
    Path("victim").write_text("precious", encoding="utf-8")
    for saved in (True, False):
        table = begin()
        add(table, *FILES[:saved])
        table.close()
        PART.joinpath(name).unlink(missing_ok=True)
        if kind == "link":
            PART.joinpath(name).symlink_to("../victim")
        else:
            os.mkfifo(PART / name)
        with pytest.raises(InputError, match=r"rows\.csv\.part is damaged; delete it to start again"):
            begin()
        PART.joinpath(name).unlink()
        PART.joinpath(PROGRESS).unlink(missing_ok=True)
    assert Path("victim").read_text(encoding="utf-8") == "precious"


def test_a_command_that_starts_while_a_table_is_put_in_place_does_not_empty_it(
    begin: Callable[..., UnfinishedTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = begin()
    add(table, *FILES)
    original, refused = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        if self.name == ROWS:
            with pytest.raises(InputError, match="another process"):
                begin()
            refused.append(self)
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    table.finish()
    assert refused
    assert Path("rows.csv").read_text(encoding="utf-8").startswith("header\na.png")
    assert not PART.exists()


def test_a_table_that_cannot_be_put_in_place_is_kept(begin: Callable[..., UnfinishedTable]) -> None:
    Path("rows.csv").mkdir()  # as an open file is on Windows, it cannot be replaced
    table = begin()
    add(table, *FILES)
    with pytest.raises(OSError, match=r"rows\.csv"):
        table.finish()
    table.close()
    Path("rows.csv").rmdir()
    table = begin()
    assert table.done == len(FILES)
    table.finish()
    assert Path("rows.csv").read_text(encoding="utf-8").startswith("header\na.png")


def test_after_a_kill_that_left_only_the_record_a_command_starts_over(begin: Callable[..., UnfinishedTable]) -> None:
    table = begin()
    add(table, *FILES)
    table.close()
    PART.joinpath(ROWS).replace("rows.csv")  # as `finish` does, before it removes the record
    table = begin(model="other")
    assert (table.done, table.saved()) == (0, 0)
    add(table, "a.png")
    table.close()
    table = begin(model="other")
    assert table.done == 1
    add(table, *FILES[1:])
    table.finish()
    assert Path("rows.csv").read_text(encoding="utf-8") == "header\na.png é\nb.png é\nc.png é\n"
    assert not PART.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_the_end_on_a_full_disk_raises_no_second_error(begin: Callable[..., UnfinishedTable]) -> None:
    table = begin()
    table._rows.close()
    table._rows = Path("/dev/full").open("r+b")  # noqa: SIM115  # `close` closes it
    with pytest.raises(OSError, match="No space left"):
        add(table, *FILES)
    table.close()
    begin().close()  # it is no longer locked


def test_a_command_that_starts_when_another_ends_has_the_table_to_itself(
    begin: Callable[..., UnfinishedTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = begin()
    add(table, *FILES)
    release, started = table._lock.release, []

    def release_and_lose(*args: Any) -> None:
        release(*args)
        started.append(begin())

    monkeypatch.setattr(table._lock, "release", release_and_lose)
    table.finish()
    with pytest.raises(InputError, match="another process"):
        begin()
    started[0].close()
