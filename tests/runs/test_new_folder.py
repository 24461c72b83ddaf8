"""A folder that a kill left empty is used again; one that another process has just made is not."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from mnist_lit.errors import InputError
from mnist_lit.runs.new_folder import create_named_run, create_run, new_folder, write_first_file
from mnist_lit.system.folder_lock import lock_folder


def test_twenty_concurrent_runs_get_twenty_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: create_run(tmp_path / "logs"), range(20)))
    assert sorted(run.name for run in made) == sorted(f"version_{n}" for n in range(20))


def test_numbers_continue_from_the_highest_and_other_names_are_ignored(tmp_path: Path) -> None:
    for name in ("version_9", "version_10", "version_x", "notes"):
        tmp_path.joinpath(name).mkdir()
    tmp_path.joinpath("README.md").touch()
    assert create_run(tmp_path).name == "version_11"


def test_a_named_run_is_created_once(tmp_path: Path) -> None:
    run = create_named_run(tmp_path / "group" / "seed_3")
    assert create_named_run(run) == run  # a kill left it empty
    run.joinpath("config.yaml").touch()
    with pytest.raises(InputError, match=r"seed_3 already exists; --resume auto continues it"):
        create_named_run(run)
    with pytest.raises(InputError, match="cannot create a run folder in"):
        create_named_run(run / "config.yaml" / "seed_0")


def test_an_empty_folder_is_used_again_and_one_with_files_is_not(tmp_path: Path) -> None:
    left = create_run(tmp_path)
    left.joinpath(".config.yaml.123.part").touch()
    folder, lock = new_folder(tmp_path)
    assert folder == left
    lock.release()
    folder.joinpath("config.yaml").touch()
    assert new_folder(tmp_path)[0].name == "version_1"


def test_an_older_empty_folder_is_left_alone_since_the_newest_run_has_the_highest_number(tmp_path: Path) -> None:
    create_run(tmp_path)
    create_run(tmp_path).joinpath("config.yaml").touch()
    assert new_folder(tmp_path)[0].name == "version_2"


def test_a_file_with_the_name_of_a_run_is_not_one(tmp_path: Path) -> None:
    tmp_path.joinpath("version_5").touch()
    assert new_folder(tmp_path)[0].name == "version_6"


def test_a_folder_that_another_process_holds_is_not_taken(tmp_path: Path) -> None:
    lock = lock_folder(create_run(tmp_path))
    assert lock
    assert new_folder(tmp_path)[0].name == "version_1"


@pytest.mark.parametrize("event", ["no locks", "filled meanwhile"])
def test_an_empty_folder_that_may_be_in_use_is_not_taken(
    event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(folder: Path) -> FileLock | None:
        if event == "no locks":
            return FileLock(folder / ".lock")
        if folder.name == "version_0":
            folder.joinpath("config.yaml").touch()
        return lock_folder(folder)

    create_run(tmp_path)
    monkeypatch.setattr("mnist_lit.runs.new_folder.lock_folder", lock)
    assert new_folder(tmp_path)[0].name == "version_1"


def test_an_empty_folder_of_a_groups_run_is_not_taken(tmp_path: Path) -> None:
    tmp_path.joinpath("version_0/seed_0").mkdir(parents=True)
    assert new_folder(tmp_path)[0].name == "version_1"


def test_processes_that_start_at_the_same_moment_get_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda _: new_folder(tmp_path), range(20)))
    assert len({folder for folder, _ in held}) == 20


def test_a_full_disk_leaves_no_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    empty, named = new_folder(tmp_path)[0], tmp_path / "named"
    named.mkdir()
    named.joinpath("own.txt").touch()
    for folder in (empty, named):
        with pytest.raises(InputError, match=rf"cannot write {folder}/config.yaml: No space left on device"):
            write_first_file(folder / "config.yaml", "")
    assert [*tmp_path.rglob("*")] == [named, named / "own.txt"]
