"""Log each step's loss without making a GPU wait: reading a number at once would first finish all queued kernels."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from mnist_lit.exact_resume import ResumableModule
from mnist_lit.metrics import smoothed_nll

# Lightning's advice on our scores, which torchmetrics has already computed from all processes' counts.
ADVICE_TO_SYNCHRONIZE = (
    r"It is recommended to use `self\.log\('(train|val|test)/(loss|acc|ece|class_acc/\d+)', \.\.\., sync_dist"
)

OnArrival = Callable[[float | None], None]


class DelayedReads:
    """Copies a scalar to the host, and uses it when the next one comes; by then the copy has arrived.

    Scalars on the CPU are used at once.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, torch.cuda.Event, OnArrival] | None = None

    def add(self, value: Tensor | None, use: OnArrival) -> None:
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


class LoggingModule(ResumableModule):
    """A module that sends scalars to the loggers at once, and the losses of a GPU's steps as they arrive."""

    latest_loss: float | None = None  # at the latest logged step; on a GPU, at the logged step before it

    def __init__(self) -> None:
        super().__init__()
        self._reads = DelayedReads()
        self._loss_step: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Hide Lightning's advice to synchronize scores."""
        super().setup(stage)
        warnings.filterwarnings("ignore", ADVICE_TO_SYNCHRONIZE)

    def start_logging(self) -> None:
        """Begin a run."""
        self._reads, self.latest_loss = DelayedReads(), None

    def logs_this_step(self) -> bool:
        """Whether the loggers get this step's loss."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return bool(every) and (self.trainer.global_step + 1) % every == 0

    def log_now(self, scalars: dict[str, float], step: int) -> None:
        """Send scalars to the loggers at once; `self.log` waits until after the callbacks, and so after a save."""
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics({"epoch": self.trainer.current_epoch, **scalars}, step)
                if not getattr(logger, "saved_with_checkpoints", False):
                    logger.save()  # as Lightning does: its CSVLogger would write nothing for 100 steps

    def log_loss(self, log_probs: Tensor, labels: Tensor, size: int) -> None:
        """If this step is logged, show its mean loss over all processes in Lightning's progress bars, and keep it for
        `log_step`: that of the last batch, if batches are accumulated. size: images in the global batch."""
        if self.logs_this_step():
            nll = smoothed_nll(log_probs, labels, 0.0)
            self._loss_step = self.trainer.strategy.reduce(nll / size, reduce_op="sum")
            shows = self.device.type == "cpu"  # on a GPU, the bars would wait at every step
            self.log("train/loss_step", self._loss_step, batch_size=size, prog_bar=shows, logger=False)

    def log_step(self, step: int, lr: float) -> None:
        """Log a step's loss and learning rate; on a GPU, only once the next ones come."""

        def log(value: float | None) -> None:
            self.latest_loss = value
            self.log_now({"lr": lr} if value is None else {"train/loss_step": value, "lr": lr}, step)

        self._reads.add(self._loss_step, log)

    def finish_logging(self) -> None:
        """Log the values that are still on their way from the GPU."""
        self._reads.flush()
