"""`mnist-lit runs` summarizes the run folders, damaged ones included."""

import os
from collections.abc import Callable
from pathlib import Path

from mnist_lit.cli.runs import summarize_run

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
    run.joinpath("predictions.csv").write_text("index,label,predicted\n0,1,1\n1,2,2\n2,3,8\n3,4,4\n")


def test_a_run_is_summarized_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "version_0")
    row = summarize_run(tmp_path / "version_0")
    assert (row["run"], row["took"], row["epochs"]) == ("version_0", "46 s", "3")
    assert row["best val/acc"] == "95.00% (2)"  # the first of equals
    assert row["test/acc"] == "75.00% of 4"
    assert row["mnist-lit …"] == "fit --config tutorial"


def test_missing_and_damaged_files_leave_columns_empty(tmp_path: Path) -> None:
    missing = summarize_run(tmp_path / "version_7")
    assert missing.pop("run") == "version_7"
    assert set(missing.values()) == {"", "0, unfinished"}
    write(tmp_path / "version_8")
    tmp_path.joinpath("version_8/metrics.csv").write_bytes(b"epoch,val/acc\n\xff\xfe,much\n")
    tmp_path.joinpath("version_8/predictions.csv").write_text("")
    tmp_path.joinpath("version_8/config.yaml").write_bytes(b"\xff")
    row = summarize_run(tmp_path / "version_8")
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
