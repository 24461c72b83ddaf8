"""The data that a checkpoint was trained on, as its configuration describes it. Reads data, trains nothing."""

from pathlib import Path
from typing import Any

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.runs.metadata import Metadata, config_of


def datamodule_from_checkpoint(
    content: dict[str, Any], data_dir: str | None = None, *, download: bool = True
) -> MNISTDataModule:
    """The data module a checkpoint was trained with, set up, and prepared unless `download` is False. Its files are in
    `data_dir`, by default the run's. Raises InputError if files are missing or damaged."""
    settings = config_of(content)["data"] | ({"data_dir": data_dir} if data_dir else {})
    try:
        data = MNISTDataModule(**settings)
        if download:
            data.prepare_data()
        data.setup()
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the checkpoint's configuration describes no data that can be read: {settings}: {error}"
        ) from error
    return data


def require_same_data(
    content: dict[str, Any], data: MNISTDataModule, checkpoint: str | Path, option: str = "--data_dir"
) -> None:
    """Raise InputError unless `data` holds exactly what the checkpoint was trained on. option: names its folder."""
    if Metadata.of(content).data != data.fingerprint:
        hint = f"pass the folder of its data as {option}"
        raise InputError(f"{checkpoint} was trained on different data from that in {data.data_dir}; {hint}")
