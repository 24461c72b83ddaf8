"""`mnist-lit runs` summarizes the run folders, damaged ones included."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.cli.runs import summarize_run
from shapes import shapes

Cli = Callable[..., tuple[int, str, str]]


def write(run: Path) -> None:
    run.joinpath("checkpoints").mkdir(parents=True)
    run.joinpath("config.yaml").write_text("# mnist-lit fit --config tutorial\nmodel:\n")
    run.joinpath("checkpoints/last.ckpt").touch()
    run.joinpath("finished").touch()
    os.utime(run / "config.yaml", (1000, 1000))
    os.utime(run / "checkpoints/last.ckpt", (1046, 1046))
    rows = ("epoch,train/loss,val/acc,val/loss", "0,,0.9,1", "0,1.5,,", "1,,0.95,1", "1,1.2,,", "2,,0.95,1", "2,1.1,,")
    run.joinpath("metrics.csv").write_text("\n".join(rows))
    answers = [",".join(f"{float(n == answer)}" for n in range(9)) for answer in (1, 2, 8, 4)]
    tested = ["index,label,predicted," + ",".join(f"prob_{n}" for n in range(9))]
    tested += [f"{i},{i + 1},{answer},{answers[i]}" for i, answer in enumerate((1, 2, 8, 4))]
    run.joinpath("predictions.csv").write_text("\n".join(tested))


def test_a_run_is_summarized_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "version_0")
    row = summarize_run(tmp_path / "version_0").row()
    assert (row["run"], row["took"], row["epochs"]) == ("version_0", "46 s", "3")
    assert row["best val/acc"] == "95.00 % (2)"  # the first of equals
    assert row["test/acc"] == "75 % of 4"
    assert row["mnist-lit …"] == "fit --config tutorial"


def test_a_finished_run_says_how_many_epochs_it_was_trained_for(tmp_path: Path) -> None:
    run = tmp_path / "version_0"
    write(run)
    for mark, epochs in (("0.5", "0.5"), ("2.333333", "2.333"), ("16", "16"), ("", "3"), ("nan", "3"), ("\xff", "3")):
        run.joinpath("finished").write_bytes(f"{mark}\n".encode("latin-1"))
        assert summarize_run(run).row()["epochs"] == epochs, mark
    run.joinpath("finished").unlink()
    assert summarize_run(run).row()["epochs"] == "3, unfinished"


def test_a_score_has_the_digits_of_the_images_that_were_validated(tmp_path: Path) -> None:
    run = tmp_path / "version_0"
    write(run)
    for mark, score in (("3", "95.00 % (2)"), ("3 24", "95 % (2)"), ("3 180", "95.0 % (2)"), ("3 x", "95.00 % (2)")):
        run.joinpath("finished").write_text(mark)
        assert summarize_run(run).row()["best val/acc"] == score


@pytest.mark.usefixtures("small_calibration")
def test_a_picture_folders_own_validation_images_decide_the_digits(cli: Cli) -> None:
    """Its 18 pictures, not the recipe's `val_size`."""
    shapes()
    fit = ("fit", "--config", "quickstart", "--data.dataset", "folder", "--data.data_dir", "my-shapes")
    printed = re.search(r"best val/acc +(\d+) %", cli(*fit, "--trainer.max_epochs", "1")[1])
    assert printed
    assert f"  {printed[1]} % (1)  " in cli("runs")[1]


@pytest.mark.usefixtures("small_calibration")
def test_a_validation_that_was_cut_short_has_an_unknown_number_of_images(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert (
        cli(*tiny_fit, "--data.val_size", "180", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "1")[0]
        == 0
    )
    assert re.search(r"  \d+\.\d\d % \(1\)", cli("runs")[1])


def test_folders_of_another_program_are_left_out(cli: Cli) -> None:
    """As a plain Trainer's loggers make them."""
    write(Path("lightning_logs/version_0"))
    Path("lightning_logs/version_1").mkdir()
    Path("lightning_logs/version_1/hparams.yaml").touch()
    _, out, _ = cli("runs")
    assert "version_1" not in out
    assert out.endswith("\nskipped 1 folder without config.yaml\n")
    assert [run["run"] for run in json.loads(cli("runs", "--json")[1])] == ["version_0"]


def test_the_trials_of_a_sweep_are_runs(cli: Cli) -> None:
    write(Path("lightning_logs/sweep_fast/trial_1"))
    assert [run["run"] for run in json.loads(cli("runs", "lightning_logs/sweep_fast", "--json")[1])] == [
        "sweep_fast/trial_1"
    ]


@pytest.mark.parametrize("prefix", ["", "lightning_logs/"])
def test_a_group_a_sweep_and_a_run_are_listed_by_path_or_name(cli: Cli, prefix: str) -> None:
    names = ["version_0/seed_0", "version_0/seed_1", "version_1", "sweep_fast/trial_0"]
    for name in names:
        write(Path("lightning_logs") / name)
    for folder, expected in (("version_0", names[:2]), ("version_1", names[2:3]), ("sweep_fast", names[3:])):
        code, out, err = cli("runs", f"{prefix}{folder}", "--json")
        assert (code, err) == (0, "")
        assert [run["run"] for run in json.loads(out)] == expected


def test_another_folder_with_a_config_is_not_a_run(cli: Cli) -> None:
    Path("config.yaml").touch()
    assert cli("runs", ".")[2].startswith("mnist-lit: no run in .; ")


def test_a_folder_with_only_a_renamed_run_says_how_to_list_it(cli: Cli) -> None:
    write(Path("lightning_logs/baseline"))
    code, _, err = cli("runs")
    expected = "no run in lightning_logs; `mnist-lit runs lightning_logs/baseline` lists a renamed run"
    assert (code, err) == (2, f"mnist-lit: {expected}\n")
    assert cli("runs", "lightning_logs/baseline")[0] == 0


def test_a_folder_that_holds_only_sweeps_says_how_to_list_them(cli: Cli) -> None:
    write(Path("lightning_logs/sweep_quickstart/trial_0"))
    code, _, err = cli("runs")
    assert (code, "`mnist-lit runs lightning_logs/sweep_quickstart` lists" in err) == (2, True)


def test_json_has_the_numbers_of_every_run(cli: Cli) -> None:
    assert cli("runs", "--json")[0] == 2  # no folder
    Path("lightning_logs").mkdir()
    assert cli("runs", "--json")[:2] == (0, "[]\n")
    write(Path("lightning_logs/version_0"))
    Path("lightning_logs/version_1").mkdir()
    Path("lightning_logs/version_1/config.yaml").touch()
    os.utime("lightning_logs/version_1/config.yaml", (2000, 2000))
    printed = cli("runs", "--json")[1]
    assert '"epochs": 3,' in printed  # whole numbers of epochs are integers
    complete, empty = json.loads(printed)
    assert complete == {
        "run": "version_0",
        "folder": "lightning_logs/version_0",
        "started": "1970-01-01T00:16:40+00:00",
        "seconds": 46.0,
        "epochs": 3,
        "finished": True,
        "val_accuracy": 0.95,
        "val_epoch": 2,
        "test_accuracy": 0.75,
        "test_images": 4,
        "command": "mnist-lit fit --config tutorial",
    }
    known: dict[str, Any] = {"run": "version_1", "folder": "lightning_logs/version_1", "epochs": 0, "finished": False}
    known["started"] = "1970-01-01T00:33:20+00:00"
    assert empty == dict.fromkeys(complete) | known
    described = cli("runs", "--help")[1]
    assert all(re.search(rf"\b{key}\b", described.partition("--json prints")[2]) for key in complete)


def test_missing_and_damaged_files_leave_columns_empty(tmp_path: Path) -> None:
    missing = summarize_run(tmp_path / "version_7").row()
    assert missing.pop("run") == "version_7"
    assert set(missing.values()) == {"", "0, unfinished"}
    write(tmp_path / "version_8")
    tmp_path.joinpath("version_8/metrics.csv").write_bytes(b"epoch,val/acc\n\xff\xfe,much\n")
    tmp_path.joinpath("version_8/predictions.csv").write_text("")
    tmp_path.joinpath("version_8/config.yaml").write_bytes(b"\xff")
    row = summarize_run(tmp_path / "version_8").row()
    assert all(row[title] == "" for title in ("epochs", "best val/acc", "test/acc", "mnist-lit …"))


def test_control_characters_of_a_config_do_not_reach_the_terminal(cli: Cli) -> None:
    write(Path("lightning_logs/version_0"))
    Path("lightning_logs/version_0/config.yaml").write_text("# mnist-lit fit\x1b]0;owned\x07 --config x\n")
    code, out, _ = cli("runs")
    assert code == 0
    assert out.rstrip().endswith("fit?]0;owned? --config x")


def test_runs_are_listed_oldest_first(cli: Cli) -> None:
    for number in (10, 9):
        write(Path(f"lightning_logs/version_{number}"))
    code, out, err = cli("runs")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["run", "version_9", "version_10"]
    assert cli("runs", "lightning_logs")[1] == out


def test_a_file_is_no_folder_of_runs(cli: Cli) -> None:
    Path("seven.png").touch()
    assert cli("runs", "seven.png")[::2] == (2, "mnist-lit: expected a folder of runs, got the file seven.png\n")


def test_numbers_that_no_run_has_are_not_shown(cli: Cli) -> None:
    write(run := Path("lightning_logs/version_0"))
    huge = "9" * 400
    run.joinpath("metrics.csv").write_text(f"epoch,train/loss,val/acc,val/loss\n{huge},1,nan,1\n0,1,inf,1\n0,,0.9,1\n")
    for mark in ("", f"16\n{huge}", huge):
        run.joinpath("finished").write_text(mark)
        code, out, err = cli("runs")
        assert (code, err, "90.00 % (1)" in out) == (0, "", True)
        assert json.loads(cli("runs", "--json")[1])[0]["val_accuracy"] == 0.9
