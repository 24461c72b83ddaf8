"""`mnist-lit report` prints only JSON with --json, and reports wrong input in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lit.cli.report import _runs
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
    assert "no run" in cli("report", "gone", "--output", "PAGE.HTML")[2]
