"""Several seeds make a group, which is tested, listed and gone on with as one; two groups are compared."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.errors import InputError
from mnist_lit.evaluation.statistics import spread
from mnist_lit.experiments.seeds import parse_seeds
from mnist_lit.runs.folders import FINISHED_MARK, group_members
from mnist_lit.runs.results import ensemble_accuracy, read_predictions

Cli = Callable[..., tuple[int, str, str]]


def run(*args: str) -> str:
    """What the command and those that it started printed."""
    return subprocess.run([sys.executable, "-m", "mnist_lit", *args], capture_output=True, text=True, check=True).stdout


GROUP = Path("lightning_logs/version_0")
FIT = ("fit", "--config", "quickstart", "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4")


@pytest.mark.parametrize(
    ("given", "seeds"), [("1", [0]), ("3", [0, 1, 2]), ("7,3", [7, 3]), ("0,10-12", [0, 10, 11, 12])]
)
def test_seeds_are_a_number_or_a_list(given: str, seeds: list[int]) -> None:
    assert parse_seeds(given) == seeds


@pytest.mark.parametrize("given", ["0", "", "-1", "five", "1,1", "3-1,5", "1-2-3", "1,,2", "4294967296,1", "20261124"])
def test_other_seeds_are_refused(given: str) -> None:
    with pytest.raises(InputError, match="expected how many"):
        parse_seeds(given)


def test_seeds_are_trained_as_a_group_and_tested_as_one(cli: Cli) -> None:
    trained = run(*FIT, "--seeds", "2")
    members = group_members(GROUP)
    assert [member.name for member in members] == ["seed_0", "seed_1"]
    assert all(member.joinpath(FINISHED_MARK).exists() for member in members)
    assert re.search(r"best val/acc +\d+\.\d+ ± \d+\.\d+ %  \(n = 2;", trained)
    tested = run("test", "--ckpt_path", str(GROUP))
    tests = [test for member in members if (test := read_predictions(member))]
    assert f"test/acc      {spread([test.acc for test in tests])}" in tested
    assert f"ensemble      {100 * ensemble_accuracy(tests):.3f} %" in tested
    assert tests[0].probs != tests[1].probs  # the seeds differ
    assert cli("runs")[1].count("version_0/seed_") == 2


@pytest.mark.slow
def test_a_groups_run_is_the_run_of_its_seed() -> None:
    run(*FIT, "--seeds", "1-2")
    run(*FIT, "--seed_everything", "2")
    alone = torch.load("lightning_logs/version_1/checkpoints/last.ckpt")["state_dict"]
    other, same = (torch.load(member / "checkpoints/last.ckpt")["state_dict"] for member in group_members(GROUP))
    assert all(torch.equal(weights, same[name]) for name, weights in alone.items())
    assert not torch.equal(alone["network.conv1.weight"], other["network.conv1.weight"])


@pytest.mark.slow
def test_a_group_goes_on_where_it_was_killed(cli: Cli) -> None:
    assert cli(*FIT, "--seeds", "2")[0] == 0
    before = GROUP.joinpath("seed_0/checkpoints/last.ckpt").stat().st_mtime_ns
    shutil.rmtree(GROUP / "seed_1")
    assert cli(*FIT, "--seeds", "2", "--resume", "auto")[0] == 0
    assert [run.name for run in group_members(GROUP)] == ["seed_0", "seed_1"]
    assert GROUP.joinpath("seed_0/checkpoints/last.ckpt").stat().st_mtime_ns == before
    assert [path.name for path in sorted(GROUP.parent.iterdir())] == ["version_0"]


@pytest.mark.slow
def test_a_group_that_is_told_to_stop_has_saved_and_goes_on(cli: Cli) -> None:
    fit = (*FIT[:3], "--trainer.max_epochs", "5", "--data.batch_size", "256", "--seeds", "2")
    process = subprocess.Popen([sys.executable, "-m", "mnist_lit", *fit], stderr=subprocess.PIPE, text=True)
    last = GROUP / "seed_0/checkpoints/last.ckpt"
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    said_last = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert "saved" in said_last
    assert "--resume auto" in said_last
    step = torch.load(last)["global_step"]
    assert 0 < step < 25
    assert not GROUP.joinpath("seed_1").exists()
    assert cli(*fit, "--resume", "auto")[0] == 0
    assert [torch.load(run / "checkpoints/last.ckpt")["global_step"] for run in group_members(GROUP)] == [25, 25]


def test_a_runs_folder_stands_for_its_best_checkpoint(cli: Cli) -> None:
    assert cli(*FIT)[0] == 0
    code, out, _ = cli("test", "--ckpt_path", "lightning_logs/version_0")
    assert code == 0
    assert "test: lightning_logs/version_0/checkpoints/best.ckpt" in out
    code, _, err = cli("test", "--ckpt_path", "lightning_logs")
    assert (code, "no model at lightning_logs" in err) == (2, True)


@pytest.mark.parametrize("option", ["--seed_everything", "--ckpt_path", "--group", "--trainer.fast_dev_run"])
def test_what_does_not_go_with_seeds_is_refused(cli: Cli, option: str, tmp_path: Path) -> None:
    value = tmp_path / "1"
    value.touch()
    code, _, err = cli(*FIT, "--seeds", "2", option, str(value))
    assert code == 2
    assert f"{option} does not go with --seeds" in err


def test_a_group_that_is_refused_leaves_no_folder(cli: Cli) -> None:
    assert cli(*FIT, "--seeds", "2", "--model.lr", "-1")[0] == 2
    assert not any(Path("lightning_logs").glob("version_*"))


def test_help_is_given_once(cli: Cli) -> None:
    assert "--seeds SEEDS" in run("fit", "--seeds", "2", "--help")


def test_a_group_has_one_recipe(cli: Cli) -> None:
    assert cli(*FIT, "--group", str(GROUP), "--seed_everything", "3")[0] == 0
    code, _, err = cli(*FIT, "--group", str(GROUP), "--seed_everything", "4", "--model.lr", "0.1")
    assert (code, "another recipe" in err) == (2, True)
    code, _, err = cli(*FIT, "--group", str(GROUP), "--seed_everything", "3")
    assert (code, "--resume auto goes on" in err) == (2, True)
    assert [member.name for member in group_members(GROUP)] == ["seed_3"]


def test_a_launcher_is_refused_a_group(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = cli(*FIT, "--seeds", "2")
    assert (code, "each launched job" in err) == (2, True)


def test_a_group_lies_where_its_config_puts_runs(cli: Cli) -> None:
    Path("mine.yaml").write_text("trainer:\n  default_root_dir: elsewhere\n")
    assert cli("fit", "--config", "mine.yaml", "--seeds", "1", "--data.dataset", "minst")[0] == 2
    assert Path("elsewhere/lightning_logs").is_dir()
    assert not Path("lightning_logs").exists()


def test_half_a_group_is_not_tested(cli: Cli) -> None:
    for seed in (0, 1):
        GROUP.joinpath(f"seed_{seed}/checkpoints").mkdir(parents=True)
        GROUP.joinpath(f"seed_{seed}/checkpoints/best.ckpt").touch()
    GROUP.joinpath("seed_0", FINISHED_MARK).touch()
    for command in (("test", "--ckpt_path", str(GROUP)), ("compare", "version_0", "version_0/seed_0")):
        code, _, err = cli(*command)
        assert (code, "seed_1 is unfinished" in err) == (2, True)


def test_seeds_in_a_config_are_sent_to_the_command_line(cli: Cli) -> None:
    Path("mine.yaml").write_text("seeds: 3\n")
    code, _, err = cli("fit", "--config", "mine.yaml")
    assert (code, "command line" in err) == (2, True)
