"""What follows a complete fit: its run is marked as finished, and its best checkpoint is calibrated."""

from pathlib import Path

from lightning.pytorch.trainer import Trainer
from torch import nn

from mnist_lit.callbacks.checkpoints import mark_complete
from mnist_lit.callbacks.stopping import StopOnSignal
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.calibration import calibrate_checkpoint
from mnist_lit.evaluation.checkpoint_data import require_same_data
from mnist_lit.own_network import is_tutorial
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import best_checkpoint, is_finished
from mnist_lit.runs.metadata import Metadata
from mnist_lit.runs.start import RunStart
from mnist_lit.system.console import say


def finish_run(start: RunStart, trainer: Trainer, datamodule: MNISTDataModule, network: nn.Module) -> None:
    """Calibrate a run's best checkpoint. First mark the run as finished, if a kill came between its last save and the
    end of the fit. Without a run folder, there is nothing to do. Raises InputError if the data has changed, and
    StoppedBySignal before calibrating if a signal came after the last step."""
    run = start.run
    if run and not is_finished(run):
        mark_complete(run, trainer)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StopOnSignal):
            callback.stop_after_fit(trainer)
    if not run:
        return
    if not start.has_trained:
        best = best_checkpoint(run)
        say(f"fit: {run} is finished; " + (f"its best checkpoint is {best}" if best else "it has no checkpoint"))
    calibrate_best(run, datamodule, network)


def calibrate_best(run: Path, datamodule: MNISTDataModule, network: nn.Module) -> None:
    """Fit the temperature and the outlier detector of a run's best checkpoint, once, if images were held out for
    validation. Raises InputError for other data than the run's."""
    path = best_checkpoint(run)
    content = load_checkpoint(path) if path and datamodule.val_size else {}
    if not path or not content or Metadata.of(content).calibration:
        return
    datamodule.setup()
    require_same_data(content, datamodule, path, "--data.data_dir")
    indices = datamodule.train_indices, datamodule.val_indices
    own = None if is_tutorial(network) else network
    say(f"fit: calibrating {path}; this may take a minute or two", flush=True)
    calibrate_checkpoint(path, path, datamodule.in_memory, *indices, network=own)
