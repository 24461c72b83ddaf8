"""Several seeds form a group, which is trained, resumed, tested and listed as one."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.cli.main import main
from mnist_lit.errors import InputError
from mnist_lit.evaluation.statistics import spread
from mnist_lit.experiments import seeds
from mnist_lit.experiments.seeds import _find_group, _seeds_at_once, _visible_gpus, parse_seeds
from mnist_lit.runs.folders import FINISHED_MARK, group_members
from mnist_lit.runs.results import ensemble_accuracy, read_predictions
from mnist_lit.system.console import percent
from shapes import shape

Cli = Callable[..., tuple[int, str, str]]
GROUP = Path("lightning_logs/version_0")
SHORT = (
    "--data.batch_size",
    "8",
    "--data.val_size",
    "64",
    "--trainer.max_epochs",
    "2",
    "--trainer.limit_train_batches",
    "2",
)
FIT = ("fit", "--config", "quickstart", *SHORT)

pytestmark = pytest.mark.usefixtures("small_calibration")


@pytest.fixture(scope="module")
def trained_group(make_once: Callable[..., Path]) -> Path:
    """The `lightning_logs` of a group of the seeds 0 and 1; not to be changed."""

    def fit(folder: Path) -> None:
        with contextlib.chdir(folder):
            assert main([*FIT, "--seeds", "2"]) == 0

    return make_once("trained_group", fit) / "lightning_logs"


@pytest.fixture
def group(trained_group: Path, empty_folder: Path) -> Path:
    """A copy of that group in the test's folder."""
    shutil.copytree(trained_group, "lightning_logs")
    return GROUP


@pytest.mark.parametrize(
    ("given", "seeds"), [("1", [0]), ("3", [0, 1, 2]), ("7,3", [7, 3]), ("0,10-12", [0, 10, 11, 12])]
)
def test_seeds_are_a_count_or_a_list(given: str, seeds: list[int]) -> None:
    assert parse_seeds(given) == seeds


@pytest.mark.parametrize(
    "given",
    [
        "0",
        "",
        "-1",
        "five",
        "1,1",
        "3-1,5",
        "1-2-3",
        "1,,2",
        "4294967296,1",
        "20261124",
        "0-99999999999999999999",
        "9" * 5000,
        "1-" + "9" * 5000,
    ],
)
def test_other_seeds_are_refused(given: str) -> None:
    with pytest.raises(InputError, match="expected a number of seeds"):
        parse_seeds(given)


def test_seeds_are_trained_and_tested_as_a_group(cli: Cli) -> None:
    code, trained, _ = cli(*FIT, "--seeds", "2")
    assert code == 0
    members = group_members(GROUP)
    assert [member.name for member in members] == ["seed_0", "seed_1"]
    assert all(member.joinpath(FINISHED_MARK).exists() for member in members)
    assert re.search(r"best val/acc +\d+\.\d+ ± \d+\.\d+ %  \(n = 2;", trained)
    code, tested, _ = cli("test", "--ckpt_path", str(GROUP))
    assert code == 0
    tests = [test for member in members if (test := read_predictions(member))]
    assert f"test/acc      {spread([test.acc for test in tests])}" in tested
    assert f"ensemble      {percent(ensemble_accuracy(tests), 360)}" in tested
    assert tests[0].probs != tests[1].probs  # the seeds differ
    assert cli("runs")[1].count("version_0/seed_") == 2


@pytest.mark.slow
def test_a_group_is_summarized_on_another_dataset_but_not_after_a_partial_test(cli: Cli, group: Path) -> None:
    for label in "0123456789":
        for split in ("train", "val", "test"):
            Path("pictures", split, label).mkdir(parents=True)
            shape("circle", 0).save(Path("pictures", split, label, "0.png"))
    other = ("--data.dataset", "folder", "--data.data_dir", "pictures")
    code, out, err = cli("test", "--ckpt_path", str(group), *other)
    assert (code, err) == (0, "")
    members = group_members(group)
    tests = [test for member in members if (test := read_predictions(member, "predictions_folder.csv"))]
    assert f"test/acc      {spread([test.acc for test in tests])}" in out
    assert not any(read_predictions(member) for member in members)
    code, out, _ = cli("test", "--ckpt_path", str(group), *other, "--trainer.limit_test_batches", "1")
    assert (code, "ensemble" in out) == (0, False)


@pytest.mark.slow
def test_a_groups_run_equals_a_single_run_of_its_seed(cli: Cli, group: Path) -> None:
    assert cli(*FIT, "--seed_everything", "1")[0] == 0
    alone = torch.load("lightning_logs/version_1/checkpoints/last.ckpt")["state_dict"]
    other, same = (torch.load(member / "checkpoints/last.ckpt")["state_dict"] for member in group_members(group))
    assert all(torch.equal(weights, same[name]) for name, weights in alone.items())
    assert not torch.equal(alone["network.conv1.weight"], other["network.conv1.weight"])


def test_a_group_resumes_with_the_seeds_that_are_missing(cli: Cli, group: Path) -> None:
    before = group.joinpath("seed_0/checkpoints/last.ckpt").stat().st_mtime_ns
    shutil.rmtree(group / "seed_1")
    assert cli(*FIT, "--seeds", "2", "--resume", "auto")[0] == 0
    assert [run.name for run in group_members(group)] == ["seed_0", "seed_1"]
    assert group.joinpath("seed_0/checkpoints/last.ckpt").stat().st_mtime_ns == before
    assert [path.name for path in sorted(group.parent.iterdir())] == ["version_0"]


def test_a_group_of_another_command_is_not_resumed_in_silence(
    group: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = group.joinpath("group.txt").read_text().strip()
    assert _find_group(group.parent, command) == group
    assert capsys.readouterr().err == ""
    assert _find_group(group.parent, f"{command} --trainer.devices 1") is None
    none = "resume: no group was started with exactly this command"
    added = f"{none}; version_0 was started without --trainer.devices 1; starting a new one\n"
    assert capsys.readouterr().err == added
    assert _find_group(group.parent, command.replace("--config quickstart", "--config fast")) is None
    assert capsys.readouterr().err == f"{none}; starting a new one\n"
    assert _find_group(tmp_path / "empty", command) is None
    assert capsys.readouterr().err == ""


def test_a_group_that_was_killed_before_its_first_run_is_resumed(tmp_path: Path) -> None:
    group = tmp_path / "version_0"
    group.mkdir()
    group.joinpath("group.txt").write_text("mnist-lit fit\n")
    assert _find_group(tmp_path, "mnist-lit fit") == group


@pytest.mark.slow  # two processes, since signals are under test
def test_a_terminated_group_has_saved_and_resumes(cli: Cli) -> None:
    fit = (*FIT[:3], "--trainer.max_epochs", "5", "--data.batch_size", "256", "--seeds", "2")
    process = subprocess.Popen([sys.executable, "-m", "mnist_lit", *fit], stderr=subprocess.PIPE, text=True)
    last = GROUP / "seed_0/checkpoints/last.ckpt"
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert "saved" in err
    assert "--resume auto" in err
    step = torch.load(last)["global_step"]
    assert 0 < step < 25
    assert not GROUP.joinpath("seed_1").exists()
    assert cli(*fit, "--resume", "auto")[0] == 0
    assert [torch.load(run / "checkpoints/last.ckpt")["global_step"] for run in group_members(GROUP)] == [25, 25]


def test_a_run_folder_stands_for_its_best_checkpoint(cli: Cli, group: Path) -> None:
    code, out, _ = cli("test", "--ckpt_path", f"{group}/seed_0")
    assert code == 0
    assert f"test: {group}/seed_0/checkpoints/best.ckpt" in out
    code, _, err = cli("test", "--ckpt_path", "lightning_logs")
    assert (code, "no model at lightning_logs" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "best"),
    [
        (("--trainer.logger", "false"), "unknown: no metrics.csv"),
        (("--data.val_size", "0"), "none: no validation"),
        (("--trainer.max_steps", "1"), "none: training ended before the first validation"),
    ],
)
def test_a_group_without_scores_says_why(cli: Cli, options: tuple[str, str], best: str) -> None:
    code, out, _ = cli(*FIT, "--seeds", "1", *options)
    assert (code, out.splitlines()[-2].split(maxsplit=2)[-1]) == (0, best)


@pytest.mark.parametrize("option", ["--seed_everything", "--ckpt_path", "--group", "--trainer.fast_dev_run"])
def test_options_that_conflict_with_seeds_are_refused(cli: Cli, option: str, tmp_path: Path) -> None:
    value = tmp_path / "1"
    value.touch()
    code, _, err = cli(*FIT, "--seeds", "2", option, str(value))
    assert code == 2
    assert f"{option} cannot be combined with --seeds" in err


def test_conflicts_and_resume_are_also_found_in_a_config(cli: Cli, group: Path) -> None:
    def fit(settings: str) -> tuple[int, str, str]:
        Path("mine.yaml").write_text(settings)
        return cli(*FIT, "--seeds", "2", "--config", "mine.yaml")

    code, _, err = fit("trainer: {fast_dev_run: true}")
    assert (code, "--trainer.fast_dev_run cannot be combined with --seeds" in err) == (2, True)
    code, out, _ = fit("resume: auto\ntrainer: {fast_dev_run: false}")
    assert code == 0
    code, again, _ = fit("resume: auto\ntrainer: {fast_dev_run: false}")
    assert code == 0
    assert f"{group.with_name('version_1')}" in out
    assert again.count("is finished") == 2
    code, out, err = cli(*FIT, "--seeds", "1,7", "--config", "mine.yaml")
    assert (code, err) == (0, "")  # neither seed is compared with the others' recipes
    assert "also 0, trained by earlier commands" in out


def test_a_refused_group_leaves_no_folder(cli: Cli) -> None:
    assert cli(*FIT, "--seeds", "2", "--model.lr", "-1")[0] == 2
    assert not any(Path("lightning_logs").glob("version_*"))


def test_help_is_printed_once(cli: Cli) -> None:
    out = cli("fit", "--seeds", "2", "--help")[1]
    assert "--seeds SEEDS" in out
    assert out.count("usage: ") == 1


def test_a_group_has_one_recipe(cli: Cli, group: Path) -> None:
    code, _, err = cli(*FIT, "--group", str(group), "--seed_everything", "4", "--model.lr", "0.1")
    assert (code, "a different recipe" in err) == (2, True)
    code, _, err = cli(*FIT, "--group", str(group), "--seed_everything", "1")
    assert (code, "--resume auto continues it" in err) == (2, True)
    assert [member.name for member in group_members(group)] == ["seed_0", "seed_1"]


def test_a_launcher_cannot_start_a_group(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = cli(*FIT, "--seeds", "2")
    assert (code, "each launched job" in err) == (2, True)


def test_a_group_lies_where_its_config_puts_runs(cli: Cli) -> None:
    Path("mine.yaml").write_text("trainer:\n  default_root_dir: elsewhere\n")
    assert cli("fit", "--config", "mine.yaml", "--seeds", "1", "--data.dataset", "minst")[0] == 2
    assert Path("elsewhere/lightning_logs").is_dir()
    assert not Path("lightning_logs").exists()


def test_an_unfinished_group_is_not_tested(cli: Cli) -> None:
    for seed in (0, 1):
        GROUP.joinpath(f"seed_{seed}/checkpoints").mkdir(parents=True)
        GROUP.joinpath(f"seed_{seed}/checkpoints/best.ckpt").touch()
    GROUP.joinpath("seed_0", FINISHED_MARK).touch()
    for command in (("test", "--ckpt_path", str(GROUP)), ("compare", "version_0", "version_0/seed_0")):
        code, _, err = cli(*command)
        assert (code, "seed_1 is unfinished" in err) == (2, True)


def test_seeds_in_a_config_are_refused(cli: Cli) -> None:
    Path("mine.yaml").write_text("seeds: 3\n")
    code, _, err = cli("fit", "--config", "mine.yaml")
    assert (code, "command line" in err) == (2, True)


@pytest.mark.slow
def test_seeds_at_once_are_the_seeds_alone(cli: Cli, group: Path) -> None:
    """In processes of their own, since they run at the same time."""
    fit = [sys.executable, "-m", "mnist_lit", *FIT, "--seeds", "2", "--seeds_at_once", "2"]
    run = subprocess.run(fit, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "2 seeds, 2 at a time" in run.stdout
    assert run.stdout.count("best val/acc") == 3  # each seed's table, and the group's
    for one, other in zip(group_members(group), group_members(group.with_name("version_1")), strict=True):
        ours, theirs = (torch.load(member / "checkpoints/last.ckpt")["state_dict"] for member in (one, other))
        assert all(torch.equal(weights, theirs[name]) for name, weights in ours.items())


@pytest.mark.parametrize(
    ("given", "gpus", "accelerator", "at_once"),
    [
        ("", "", "", 1),
        ("", "0", "", None),
        ("", "0", "cpu", 1),
        ("", "0,1", "", 1),
        ("3", "", "", 3),
        ("99", "0", "", 8),
        ("", "-1", "", 1),
    ],
)
def test_a_single_gpu_trains_as_many_seeds_at_once_as_the_cpu_has_cores(
    given: str,
    gpus: str,
    accelerator: str,
    at_once: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnist_lit.experiments.seeds.DEVICES", tmp_path)
    monkeypatch.setattr("importlib.metadata.version", {"torch": "2.12.0+cu130"}.__getitem__)  # whatever is installed
    for name in ("nvidia0", "nvidia1"):
        tmp_path.joinpath(name).touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    assert _seeds_at_once(given, 8, accelerator) == (at_once or min(8, os.cpu_count() or 1))


def test_gpus_are_counted_as_linux_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.experiments.seeds.DEVICES", tmp_path)
    monkeypatch.setattr("importlib.metadata.version", {"torch": "2.12.0"}.__getitem__)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert _visible_gpus() == 0  # a number is not a GPU yet
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        tmp_path.joinpath(name).touch()
    assert _visible_gpus() == 1
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert _visible_gpus() == 2
    monkeypatch.setattr("importlib.metadata.version", {"torch": "2.12.0+cpu"}.__getitem__)
    assert _visible_gpus() == 0  # that this build of torch could use


def test_a_wrong_number_of_seeds_at_once_is_refused(error_line: Callable[..., str]) -> None:
    assert "--seeds_at_once: expected 1 or more, got none" in error_line(
        *FIT, "--seeds", "2", "--seeds_at_once", "none"
    )
    assert "--seeds_at_once: expected 1 or more, got 999" in error_line(
        *FIT, "--seeds", "2", "--seeds_at_once", "9" * 5000
    )
    assert "seeds_at_once: requires --seeds" in error_line(*FIT, "--seeds_at_once", "2")


def test_a_group_ends_with_the_first_failed_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        GROUP.joinpath(f"seed_{seed}/checkpoints").mkdir(parents=True)
        GROUP.joinpath(f"seed_{seed}/checkpoints/best.ckpt").touch()
        GROUP.joinpath(f"seed_{seed}", FINISHED_MARK).touch()
    codes = iter((3, 0))
    monkeypatch.setattr("mnist_lit.experiments.seeds.run_command", lambda *_: next(codes))
    assert seeds.main("test", ["--ckpt_path", str(GROUP)]) == 3
    assert next(codes) == 0  # the second was not started


def test_of_two_groups_of_one_command_the_newer_is_resumed(tmp_path: Path) -> None:
    for name in ("version_9", "version_10"):
        tmp_path.joinpath(name).mkdir()
        tmp_path.joinpath(name, "group.txt").write_text("mnist-lit fit\n")
    assert _find_group(tmp_path, "mnist-lit fit") == tmp_path / "version_10"
