"""Run folders are fresh, and the newest is found."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import best_checkpoint, create_run, newest_checkpoint, run_of_checkpoint


def save(run: Path, name: str) -> Path:
    path = run / "checkpoints" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_twenty_runs_at_once_get_twenty_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: create_run(tmp_path / "logs"), range(20)))
    assert sorted(run.name for run in made) == sorted(f"version_{n}" for n in range(20))


def test_numbers_go_on_from_the_highest_and_other_names_are_no_runs(tmp_path: Path) -> None:
    for name in ("version_9", "version_10", "version_x", "notes"):
        tmp_path.joinpath(name).mkdir()
    tmp_path.joinpath("README.md").touch()
    assert create_run(tmp_path).name == "version_11"


def test_the_newest_run_counts_by_number_and_only_with_a_checkpoint(tmp_path: Path) -> None:
    for nothing in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="nothing was trained"):
            newest_checkpoint(nothing)
    made = [create_run(tmp_path) for _ in range(12)]
    save(made[2], "best.ckpt")
    best = save(made[10], "best.ckpt")
    assert newest_checkpoint(tmp_path) == best  # not version_2, not the empty version_11


def test_without_a_best_the_last_counts(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    last = save(run, "last.ckpt")
    assert best_checkpoint(run) == last
    assert save(run, "best.ckpt") == best_checkpoint(run)


def test_a_checkpoint_outside_a_run_belongs_to_its_own_folder(tmp_path: Path) -> None:
    assert run_of_checkpoint(Path("logs/version_3/checkpoints/best.ckpt")) == Path("logs/version_3")
    assert run_of_checkpoint(tmp_path / "model.ckpt") == tmp_path
    assert run_of_checkpoint(Path("model.ckpt")) == Path.cwd()
