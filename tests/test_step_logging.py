"""A CPU's numbers are used at once; a GPU's when the next one comes, without waiting for the GPU."""

from typing import Any

import pytest
import torch

from mnist_lit.step_logging import DelayedReads, LoggingModule


class OnGPU:
    """Stands in for a scalar on a GPU whose copy arrives when somebody waits for it."""

    device, dtype = torch.device("cuda"), torch.float32

    def __init__(self, value: float) -> None:
        self.value = value


class Copy:
    def __init__(self, *_: Any, pin_memory: bool, **__: Any) -> None:
        assert pin_memory  # otherwise the copy would wait
        self.value = float("nan")

    def copy_(self, source: OnGPU, *, non_blocking: bool) -> None:
        assert non_blocking
        self.value = source.value

    def __float__(self) -> float:
        return self.value


class Event:
    waits = 0

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        Event.waits += 1


def test_a_cpus_numbers_are_used_at_once() -> None:
    used: list[float | None] = []
    reads = DelayedReads()
    reads.add(torch.tensor(1.5), used.append)
    reads.add(None, used.append)
    assert used == [1.5, None]
    reads.flush()
    assert used == [1.5, None]


def test_a_gpus_number_is_used_when_the_next_one_comes_or_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", Copy)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    used: list[float | None] = []
    reads, numbers = DelayedReads(), [OnGPU(value) for value in (1.0, 2.0, 3.0)]
    reads.add(numbers[0], used.append)  # type: ignore[arg-type]
    assert (used, Event.waits) == ([], 0)
    reads.add(numbers[1], used.append)  # type: ignore[arg-type]
    assert used == [1.0]
    reads.add(numbers[2], used.append)  # type: ignore[arg-type]
    assert used == [1.0, 2.0]
    reads.flush()
    assert (used, Event.waits) == ([1.0, 2.0, 3.0], 3)
    reads.flush()
    assert used == [1.0, 2.0, 3.0]


def test_two_modules_do_not_share_the_values_that_are_on_their_way() -> None:
    assert LoggingModule()._reads is not LoggingModule()._reads
