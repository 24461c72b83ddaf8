"""Forty of the embedded digits: a fit on them takes five steps of eight images per epoch."""

FEW_DIGITS = (
    *("--data.dataset", "digits", "--data.val_size", "157", "--data.fraction", "0.03125"),  # 1,437 - 157 = 32 · 40
    *("--data.batch_size", "8"),
)
