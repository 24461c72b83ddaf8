"""`mnist-lit report` prints only JSON with --json, and reports wrong input in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.cli.report import _runs
from mnist_lit.runs.results import read_predictions
from shapes import shapes

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_json_output_is_clean_while_pictures_are_read(cli: Cli) -> None:
    shapes()
    fit = ("fit", "--config", "quickstart", "--data.dataset", "folder", "--data.data_dir", "my-shapes")
    assert cli(*fit, "--trainer.max_epochs", "1", "--data.batch_size", "24")[0] == 0
    Path("my-shapes/.mnist-lit.npz").unlink()
    code, out, err = cli("report", "--json", "--images", "3")
    assert code == 0
    assert "reading 102 pictures from my-shapes" in err
    report = json.loads(out)
    assert report["classes"] == ["circle", "square", "triangle"]
    assert "--data.data_dir my-shapes" in report["origin"]["commands"][0]
    assert cli("report", "--images", "3")[0] == 0
    html = Path("lightning_logs/version_0/report.html").read_text(encoding="utf-8")
    listed = html.partition('<section id="mistakes">')[2]
    shown = re.findall(r'<span class="quiet">(test/[^<]+)</span>', listed)
    assert shown[0] == report["files"][report["test"]["mistakes"][0]["index"]]  # one epoch leaves mistakes
    assert Path("my-shapes", shown[0]).is_file()


@pytest.mark.usefixtures("small_calibration")
def test_an_untested_run_is_tested_on_its_pictures_wherever_they_are(cli: Cli) -> None:
    shapes(train=4, val=2, test=2)
    fit = ("fit", "--data.dataset", "folder", "--data.data_dir", "my-shapes", "--data.batch_size", "8")
    assert cli(*fit, "--trainer.max_epochs", "1")[0] == 0
    Path("my-shapes").rename("moved")
    code, _, err = cli("report", "version_0", "--data_dir", "moved", "--images", "3")
    assert code == 0, err
    assert Path("lightning_logs/version_0/predictions.csv").exists()


def test_the_newest_group_is_reported_if_it_is_complete() -> None:
    for seed in (0, 1):
        run = Path(f"lightning_logs/version_3/seed_{seed}")
        run.joinpath("checkpoints").mkdir(parents=True)
        run.joinpath("checkpoints/last.ckpt").touch()
    members = [Path(f"lightning_logs/version_3/seed_{seed}") for seed in (0, 1)]
    members[0].joinpath("finished").touch()
    assert _runs(None) == (members[1], [members[1]])
    members[1].joinpath("finished").touch()
    assert _runs(None) == _runs("latest") == (members[0].parent, members)


def test_a_checkpoint_other_than_the_best_is_reported_itself() -> None:
    run = Path("lightning_logs/version_0")
    best, last = (run / f"checkpoints/{name}.ckpt" for name in ("best", "last"))
    best.parent.mkdir(parents=True)
    for path in (best, last, run / "config.yaml"):
        path.touch()
    assert _runs(str(last)) == _runs("last") == _runs("version_0/checkpoints/last.ckpt") == (run, [last])
    assert _runs(str(best)) == _runs("latest") == _runs("version_0") == (run, [run])
    best.unlink()
    assert _runs(str(last)) == _runs("last") == (run, [run])  # a run without validation


def test_a_checkpoints_page_is_about_it_and_leaves_the_runs_page(cli: Cli, tiny_run: Path) -> None:
    checkpoints = tiny_run / "checkpoints"
    other = torch.load(checkpoints / "best.ckpt")
    for weights in other["state_dict"].values():
        weights.mul_(0)
    other["global_step"] = 1
    torch.save(other, checkpoints / "epoch_1.ckpt")
    tiny_run.joinpath("report.html").write_text("the run's", encoding="utf-8")
    code, out, err = cli("report", str(checkpoints / "epoch_1.ckpt"), "--images", "3")
    assert code == 0, err
    assert out.startswith(f"report: {tiny_run}/report_epoch_1.html, ")
    assert tiny_run.joinpath("report.html").read_text(encoding="utf-8") == "the run's"
    page = tiny_run.joinpath("report_epoch_1.html").read_text(encoding="utf-8")
    assert "<p>version_0, epoch_1.ckpt, started on " in page
    assert "mnist-lit report lightning_logs/version_0/checkpoints/epoch_1.ckpt --json" in page
    found = json.loads(cli("report", str(checkpoints / "epoch_1.ckpt"), "--images", "3", "--json")[1])
    test, origin = read_predictions(tiny_run, "predictions_epoch_1.csv"), found["origin"]
    assert test
    assert found["test"]["right"] == test.right
    assert (origin["steps"], origin["epochs"], origin["finished"]) == (1, 1, True)
    assert origin["validation"]
    assert found["curves"]["val/acc"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("version_9",), "version_9"),
        ((), "lightning_logs"),
        (("--images", "0"), "--images: expected 1 or more, got 0"),
        (("--json", "--output", "x.html"), "expected --json or --output, got both"),
        (("--jsn",), "did you mean --json?"),
    ],
)
def test_wrong_input_is_one_line(cli: Cli, args: tuple[str, ...], message: str) -> None:
    code, out, err = cli("report", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_page_is_written_only_as_html(cli: Cli) -> None:
    code, _, err = cli("report", "pretrained", "--output", "page.txt")
    assert (code, err) == (2, "mnist-lit: --output: expected a file name that ends in .html, got page.txt\n")
    assert "a file name that ends in .html, got nothing" in cli("report", "--output", "")[2]
    assert "no run" in cli("report", "gone", "--output", "PAGE.HTML")[2]
    assert "the package has the shipped model, but not its run" in cli("report", "pretrained")[2]
