"""What a fit that is refused leaves behind."""

from pathlib import Path

import pytest

from mnist_lit.runs.start import RunStart, discard_run


def test_a_refused_fits_folder_goes_unless_it_holds_a_checkpoint(tmp_path: Path) -> None:
    for name in ("best.ckpt", "config.yaml"):
        run = tmp_path / name
        run.joinpath("checkpoints").mkdir(parents=True)
        run.joinpath("checkpoints", name).touch()
        discard_run(RunStart(run))
        assert run.exists() == (name == "best.ckpt")


@pytest.mark.parametrize("kept", ["continues", "finished", "has_trained"])
def test_a_run_that_was_not_created_for_this_fit_stays(kept: str, tmp_path: Path) -> None:
    discard_run(RunStart(tmp_path, **{kept: True}))  # type: ignore[arg-type]
    assert tmp_path.exists()
