"""Read numbers from a GPU without making it wait: reading one at once would first finish all work that is queued."""

from collections.abc import Callable

import torch
from torch import Tensor

Use = Callable[[float | None], None]


class DelayedReads:
    """Copies a scalar to the host, and uses it when the next one comes; by then the copy has long arrived.

    Scalars on the CPU are used at once.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, torch.cuda.Event, Use] | None = None

    def add(self, value: Tensor | None, use: Use) -> None:
        """Call `use` with this value, now or later; None stays None."""
        self.flush()
        if value is None or value.device.type != "cuda":
            use(None if value is None else float(value))
            return
        copy = torch.empty((), dtype=value.dtype, pin_memory=True)
        copy.copy_(value, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._pending = copy, arrived, use

    def flush(self) -> None:
        """Wait for the value that is still on its way, and use it."""
        if self._pending:
            copy, arrived, use = self._pending
            self._pending = None
            arrived.synchronize()
            use(float(copy))
