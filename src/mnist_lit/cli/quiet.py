"""Hide the warnings and log lines that Lightning and torch print although nothing is wrong."""

import logging
import re
import warnings

WARNINGS = (  # harmless ones
    r".*LeafSpec",
    r".*does not have many workers",
    r"GPU available but not used",  # with trainer.accelerator: cpu, as chosen by the user
    r"Total length of `list` across ranks is zero",  # data.val_size: 0
    r"The ``compute`` method of metric .* was called before the ``update``",  # the counts came from a checkpoint
    r"The number of training batches .* is smaller than the logging interval",
    r"SWA is currently only supported every epoch",  # it replaces our schedule, which advances every step
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",  # a notebook's own callbacks
    r"When using `Trainer\(accumulate_grad_batches != 1\)` and overriding `LightningModule.optimizer_",
    r"LightningCLI's args parameter is intended",
    r"You requested to overfit but enabled train dataloader shuffling",  # the data module turns ours off
)
INFO = re.compile(  # whole messages that Lightning prints about itself
    r"(GPU|TPU|HPU) available: .*|💡 Tip: .*|`Trainer\.fit` stopped: .*|.*Seed set to \d+"
    r"|Rest(oring|ored all) states .*|Loading `train_dataloader` .*|Initializing distributed: .*"
    r"|-{20,}\ndistributed_backend=.*|LOCAL_RANK: .*|Running in `fast_dev_run` mode: .*"
    r"|`weights_only` was not set.*|`Trainer\(.*\)` was configured so .*",
    re.DOTALL,
)


def silence_expected_messages() -> None:
    """Hide the messages above; everything else still appears."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_is_unexpected)


def _is_unexpected(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not INFO.fullmatch(record.getMessage().strip())
