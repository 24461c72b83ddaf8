"""`mnist-lit predict`: a table on the terminal or in a file; a bad file costs a row, not the run."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from mnist_lit.errors import StoppedBySignal
from mnist_lit.inference.reader import DigitReader, Proposal, Reading
from mnist_lit.inference.unfinished_table import UnfinishedTable
from mnist_lit.runs.locate import PRETRAINED_DIR

Cli = Callable[..., tuple[int, str, str]]
PRETRAINED = ("--model", "pretrained")


def draw(path: str, *, digits: int = 1) -> None:
    """Save a picture of this many ones."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (90 * digits, 160), 235)
    for number in range(digits):
        ImageDraw.Draw(image).line([(50 + 90 * number, 20), (42 + 90 * number, 140)], fill=20, width=9)
    image.save(path)


def test_the_table_on_the_terminal(cli: Cli) -> None:
    draw("one.png")
    code, out, err = cli("predict", "one.png")
    assert code == 0
    assert err == "predict: pretrained\n"
    heading, row = out.splitlines()
    assert heading.split() == ["file", "digit", "probability", "status"]
    name, digit, probability, status = row.split()
    assert (name, digit, status) == ("one.png", "1", "ok")
    assert float(probability.rstrip("%")) > 90


def test_a_run_among_the_pictures_is_explained(error_line: Callable[..., str], cli: Cli) -> None:
    draw("one.png")
    Path("lightning_logs/version_0").mkdir(parents=True)
    line = error_line("predict", "version_0", "one.png", *PRETRAINED)
    assert line == "mnist-lit: found no file version_0; to read with that run, use --model version_0\n"
    Path("lightning_logs/two.png").touch()
    assert cli("predict", "two.png", *PRETRAINED)[0] == 1  # an error row


def test_json_prints_the_rows_of_a_jsonl_file(cli: Cli) -> None:
    draw("one…\u2028.png")  # whose name a table shows without what would control a terminal
    draw("page.png", digits=2)
    command = ("predict", "one…\u2028.png", "page.png", "gone.png", *PRETRAINED)
    for options in ((), ("--many",)):
        assert cli(*command, *options, "--output", "rows.jsonl")[0] == 1
        code, out, err = cli(*command, *options, "--json")
        rows = Path("rows.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        assert (code, err) == (1, "predict: pretrained\n")
        assert [json.loads(line) for line in out.splitlines()] == [json.loads(row) for row in rows]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--json", "--output", "rows.jsonl"), "expected --json or --output, got both: --json prints to standard outp"),
        (("--output", ""), "ends in .csv or .jsonl (--json prints to standard output), got nothing"),
        (("--output", "-"), "ends in .csv or .jsonl (--json prints to standard output), got -"),
        (("--output", "/dev/stdout"), "ends in .csv or .jsonl (--json prints to standard output), got /dev/stdout"),
    ],
)
def test_standard_output_is_for_json(cli: Cli, options: tuple[str, ...], line: str) -> None:
    code, out, err = cli("predict", "one.png", *options)
    assert (code, out) == (2, "")
    assert line in err


def test_a_bad_file_costs_one_row(cli: Cli) -> None:
    draw("one.png")
    Path("bad.png").write_bytes(b"no picture")
    code, out, err = cli("predict", "bad.png", "one.png", "missing.png", *PRETRAINED)
    assert code == 1
    rows = out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["bad.png", "one.png", "missing.png"]
    assert ["error" in row for row in rows] == [True, False, True]
    assert "Traceback" not in out + err


def test_the_table_in_a_file(cli: Cli) -> None:
    draw("=cmd.png")
    Image.new("L", (40, 30), 250).save("blank.png")
    Path("bad.png").touch()
    for name in ("rows.csv", "rows.jsonl", "rows.CSV"):
        code, out, err = cli("predict", "=cmd.png", "blank.png", "bad.png", "--output", name, *PRETRAINED)
        assert (code, out) == (1, "")
        assert err.splitlines()[-1] == f"predict: 3 rows in {name}: 1 ok, 1 rejected, 1 error"
    assert Path("rows.CSV").read_bytes() == Path("rows.csv").read_bytes()
    assert "predict: 1 row in one.csv: 1 rejected" in cli("predict", "blank.png", "--output", "one.csv", *PRETRAINED)[2]
    with Path("rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "line", "column", "box", "digit", "probability", "status", "message"]
    assert rows[0]["file"] == "'=cmd.png"  # not a formula
    assert [row["status"] for row in rows] == ["ok", "rejected", "error"]
    assert len(rows[0]["box"].split()) == 4
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["file"] for line in lines] == ["=cmd.png", "blank.png", "bad.png"]
    assert lines[0]["digit"] == "1"
    assert lines[1]["message"] == "no writing found"
    assert lines[1]["digit"] is lines[1]["probability"] is None
    assert lines[2]["box"] is lines[2]["digit"] is lines[2]["probability"] is None


def test_folders_standard_input_and_the_networks_input(cli: Cli) -> None:
    draw("folder/a.png")
    draw("folder/inner/b.JPG")
    Path("folder/notes.txt").touch()
    for _ in range(2):  # the second time the pictures of the first --show are there
        code, out, err = cli("predict", "folder", "--show", *PRETRAINED)
        assert code == 0
        assert err.splitlines()[-1] == "predict: saved the network's input as folder/a.png.seen.png and 1 more"
        assert [row.split()[0] for row in out.splitlines()[1:]] == ["folder/a.png", "folder/inner/b.JPG"]
    saved = cli("predict", *["folder/a.png", "folder/./a.png"], "--show", *PRETRAINED)[2].splitlines()[-1]
    assert saved == "predict: saved the network's input as folder/a.png.seen.png"
    Path("gone.png.seen.png").touch()
    assert "saved" not in cli("predict", "gone.png", "--show", *PRETRAINED)[2]
    with Image.open("folder/a.png.seen.png") as seen:
        assert (seen.size, seen.mode) == ((224, 224), "L")
        assert seen.getpixel((0, 0)) == 0
    program = [sys.executable, "-m", "mnist_lit", "predict", "-", *PRETRAINED]
    run = subprocess.run(program, input=Path("folder/a.png").read_bytes(), capture_output=True, check=True, timeout=60)
    assert run.stdout.decode().splitlines()[1].split()[:2] == ["-", "1"]
    Path("empty").mkdir()
    code, out, _ = cli("predict", "empty", "folder/a.png", *PRETRAINED)
    assert code == 1
    assert [row.split()[-1] for row in out.splitlines()[1:]] == ["some", "ok"]  # the other one is still read


def test_a_picture_of_too_many_pixels_costs_one_line() -> None:
    """Pillow's own warning about its size is not printed."""
    Image.new("1", (10_000, 10_000)).save("large.png")
    program = [sys.executable, "-m", "mnist_lit", "predict", "large.png", *PRETRAINED]
    run = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert "got 10000×10000; make it smaller" in run.stdout
    assert run.stderr == "predict: pretrained\n"


def test_many_prints_lines_as_numbers_and_writes_each_digit(cli: Cli) -> None:
    draw("three.png", digits=3)
    Image.new("L", (40, 30), 250).save("blank.png")
    code, out, _ = cli("predict", "three.png", "blank.png", "--many", *PRETRAINED)
    assert code == 0
    heading, three, blank = (row.split() for row in out.splitlines())
    assert heading == ["file", "number", "probability", "status"]
    assert (three[:2], three[3:]) == (["three.png", "111"], ["ok"])
    assert blank == ["blank.png", "-", "-", "rejected", "no", "writing", "found"]
    assert cli("predict", "three.png", "--many", "--output", "rows.csv", *PRETRAINED)[0] == 0
    with Path("rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["digit"] for row in rows] == ["1", "1", "1"]
    assert min(float(row["probability"]) for row in rows) == pytest.approx(float(three[2].rstrip("%")) / 100, abs=1e-4)


def test_the_lines_of_a_page_are_numbers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("page.png", digits=5)

    def decide(reader: DigitReader, proposals: Sequence[Proposal]) -> list[list[Reading]]:
        readings = reader.readings(proposals[0].sheets[0].digits())
        places = [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]
        statuses = ["ok", "rejected", "ok", "ok", "rejected"]
        return [
            [
                reading._replace(
                    digit=str(number), line=line, column=column, status=status, probability=1 - number / 10
                )
                for number, (reading, (line, column), status) in enumerate(zip(readings, places, statuses, strict=True))
            ]
        ]

    monkeypatch.setattr(DigitReader, "decide", decide)
    out = cli("predict", "page.png", "--many", *PRETRAINED)[1]
    assert [" ".join(row.split()) for row in out.splitlines()[1:]] == [
        "page.png 0?2 80.00% rejected 1 of 3 digits",
        "page.png 3 70.00% ok",
        "page.png ? 60.00% rejected",
    ]
    cli("predict", "page.png", "--many", "--output", "rows.jsonl", *PRETRAINED)
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["line"], row["column"]) for row in rows] == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]


def test_an_interrupted_command_continues_where_it_stopped(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        draw(f"folder/{name}.png")
    Path("folder/a.png").write_bytes(b"no picture")
    monkeypatch.setattr("mnist_lit.inference.unfinished_table.SAVE_SECONDS", 0)
    assert cli("predict", "folder", "--output", "whole.csv", *PRETRAINED)[0] == 1
    add = UnfinishedTable.add

    def add_or_stop(table: UnfinishedTable, file: str, *rest: Any) -> None:
        if file == "folder/c.png":
            raise StoppedBySignal(signal.SIGTERM)
        add(table, file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedTable, "add", add_or_stop)
        code, _, err = cli("predict", "folder", "--output", "rows.csv", *PRETRAINED)
    assert code == 128 + signal.SIGTERM
    message = "stopped by SIGTERM after 2 of 4 files; the same command continues rows.csv"
    assert err.splitlines()[-1] == f"mnist-lit: {message}"
    assert not Path("rows.csv").exists()
    code, _, err = cli("predict", "folder", "--many", "--output", "rows.csv", *PRETRAINED)
    assert code == 2
    assert "rows.csv.part has unfinished rows of another mode; delete it to start again" in err
    code, _, err = cli("predict", "folder", "--output", "rows.csv", *PRETRAINED)
    assert code == 1  # a.png, although an earlier command read it
    assert "predict: continuing rows.csv after 2 of 4 files" in err
    assert "predict: 4 rows in rows.csv: 1 error, 3 ok" in err
    assert Path("rows.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert "rows.csv will be replaced" in cli("predict", "folder", "--output", "rows.csv", *PRETRAINED)[2]


def test_a_model_that_is_replaced_while_it_is_loaded_writes_no_table(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("a.png")
    shutil.copy(PRETRAINED_DIR / "model.onnx", "model.onnx")
    load = DigitReader.load

    def load_late(*args: Any, **options: Any) -> DigitReader:
        reader = load(*args, **options)
        Path("model.onnx").write_bytes(b"of a later epoch")
        return reader

    monkeypatch.setattr(DigitReader, "load", load_late)
    code, _, err = cli("predict", "a.png", "--model", "model.onnx", "--output", "rows.csv")
    assert (code, err) == (2, "mnist-lit: model.onnx was replaced while it was loaded; repeat the command\n")
    assert not list(Path().glob("rows.csv*"))


def test_ctrl_c_pressed_several_times_stops_at_once() -> None:
    draw("folder/0.png")
    for number in range(1, 10_000):
        Path("folder", f"{number}.png").hardlink_to("folder/0.png")
    program = [sys.executable, "-m", "mnist_lit", "predict", "folder", "--output", "rows.csv", *PRETRAINED]
    with subprocess.Popen(program, stderr=subprocess.PIPE, start_new_session=True, text=True) as process:
        try:
            while not Path("rows.csv.part/progress.json").exists() and process.poll() is None:
                time.sleep(0.01)
            for _ in range(5):
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
                time.sleep(0.02)
            err = process.communicate(timeout=30)[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + signal.SIGINT
    saved = json.loads(Path("rows.csv.part/progress.json").read_bytes())["done"]
    message = f"stopped by SIGINT after {saved:,} of 10,000 files; the same command continues rows.csv"
    assert [line for line in err.splitlines() if line.strip()] == ["predict: pretrained", f"mnist-lit: {message}"]


def test_an_exported_model_is_read_without_torch() -> None:
    draw("one.png")
    program = (
        "import sys; from mnist_lit.cli.main import main\n"
        "assert main(['predict', 'one.png', '--model', 'pretrained']) == 0\n"
        "assert not {'torch', 'lightning'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_invalid_options_are_one_line(cli: Cli) -> None:
    draw("one.png")
    assert cli("predict", "one.png", "--output", "rows.txt", *PRETRAINED)[0] == 2
    assert "1 row in ROWS.CSV: 1 ok" in cli("predict", "one.png", "--output", "ROWS.CSV", *PRETRAINED)[2]
    assert cli("predict", "one.png", "--output", "ROWS.JSONL", *PRETRAINED)[0] == 0
    assert Path("ROWS.JSONL").read_text(encoding="utf-8").startswith("{")
    given = cli("predict", "one.png", "--threshold", "0.25", *PRETRAINED)[2]
    assert given == "predict: pretrained, rejecting outlier scores above 0.25\n"
    code, _, err = cli("predict", "one.png", "--output", "missing/rows.csv", *PRETRAINED)
    assert (code, err.splitlines()[-1]) == (
        2,
        "mnist-lit: cannot write missing/rows.csv.part: No such file or directory; create the folder missing first",
    )
    assert cli("predict", "one.png", "--threshold", "2", *PRETRAINED)[::2] == (
        2,
        "mnist-lit: --threshold: expected 0 (strictest) … 1 (rejects nothing), got 2.0\n",
    )


def test_only_an_earlier_table_is_replaced(cli: Cli) -> None:
    draw("one.png")
    for name in ("rows.csv", "rows.jsonl"):
        Path(name).touch()
        assert [cli("predict", "one.png", "--output", name, *PRETRAINED)[0] for _ in range(2)] == [0, 0]
        Path(name).write_text("mine", encoding="utf-8")
        message = f"--output: {name} is not a table of this command; delete it first, or choose another name"
        assert cli("predict", "one.png", "--output", name, *PRETRAINED)[::2] == (2, f"mnist-lit: {message}\n")
        assert Path(name).read_text(encoding="utf-8") == "mine"
    Path("d.csv").mkdir()
    code, _, err = cli("predict", "one.png", "--output", "d.csv", *PRETRAINED)
    assert (code, err) == (2, "mnist-lit: --output: expected a file, got the folder d.csv\n")
    Path("new.csv.part").touch()
    code, _, err = cli("predict", "one.png", "--output", "new.csv", *PRETRAINED)
    assert (code, err.splitlines()[-1]) == (2, "mnist-lit: cannot write new.csv.part: File exists")


def test_names_that_are_no_pictures_say_why(cli: Cli) -> None:
    draw("-dash.png")
    assert "; to read the file, write ./-dash.png\n" in cli("predict", "-dash.png", *PRETRAINED)[2]
    Path("-").touch()
    assert "name it" not in cli("predict", "-", "--threshold", "x", *PRETRAINED)[2]
    Path("empty").mkdir()
    code, out, _ = cli("predict", "empty", "", "https://localhost/a.png", "gone\n.png", "./-dash.png", *PRETRAINED)
    empty, unnamed, url, gone, read = out.splitlines()[1:]
    assert code == 1
    assert empty.endswith("expected pictures, got a folder without any; name one that has some")
    assert url.endswith("expected a picture, found no file https://localhost/a.png; download it first")
    assert gone.endswith("expected a picture, found no file gone .png")
    assert unnamed.endswith("expected a picture, got an empty name")
    assert " ok" in read


@pytest.mark.parametrize(("folder", "accuracy"), [("drawn", 0.97), ("paper", 0.985)])
def test_real_handwriting_is_read(folder: str, accuracy: float, shared: Path, cli: Cli) -> None:
    assert cli("predict", str(shared / "real-digits" / folder), "--output", "rows.csv", *PRETRAINED)[0] == 0
    with shared.joinpath("real-digits", folder, "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {str(shared / "real-digits" / folder / row["file"]): row["label"] for row in csv.DictReader(file)}
    with Path("rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["status"] == "ok" and row["digit"] == labels[row["file"]] for row in rows)
    assert len(rows) == len(labels)
    assert right / len(rows) >= accuracy


def test_hostile_files_get_a_row_each(shared: Path, cli: Cli) -> None:
    files = [str(path) for path in sorted((shared / "odd-images").glob("*/*")) if path.is_file()]
    code, out, err = cli("predict", *files, *PRETRAINED)
    assert code == 1
    assert len(out.splitlines()) == 1 + len(files)
    assert "Traceback" not in out + err


def test_unfinished_rows_of_another_version_model_and_threshold_are_refused(cli: Cli) -> None:
    draw("one.png")
    part = Path("rows.csv.part")
    part.mkdir()
    part.joinpath("rows").touch()
    settings = {"version": "0", "model": "0", "threshold": 0.9, "mode": "one"}
    record = {"settings": settings, "done": 0, "names": "", "counts": {}, "bytes": 0}
    part.joinpath("progress.json").write_text(json.dumps(record))
    code, _, err = cli("predict", "one.png", "--output", "rows.csv", *PRETRAINED)
    assert code == 2
    assert "another version and model and threshold" in err
