"""Forty of the embedded digits: a fit on them takes five steps of eight images per epoch."""

from typing import Any

SETTINGS: dict[str, Any] = {"dataset": "digits", "val_size": 157, "fraction": 0.03125, "batch_size": 8}  # 1,280 / 32
FEW_DIGITS = tuple(word for name, value in SETTINGS.items() for word in (f"--data.{name}", str(value)))
