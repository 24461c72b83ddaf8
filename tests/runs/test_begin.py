"""A fit begins in a run folder that no other process writes to."""

from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.runs.begin import begin_run
from mnist_lit.system.folder_lock import lock_folder


def test_a_named_folder_in_which_another_process_begins_a_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "seed_0"
    run.mkdir()
    lock = lock_folder(run)
    assert lock

    def begin() -> Path | None:
        return begin_run(tmp_path, "model: {}", "mnist-lit fit", seed=0, group=tmp_path, run=None, resume=False)[0].run

    with pytest.raises(InputError, match=r"another process is beginning a run in .*seed_0"):
        begin()
    assert not run.joinpath("config.yaml").exists()
    lock.release()
    assert begin() == run
