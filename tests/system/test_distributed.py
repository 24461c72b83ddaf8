"""The collectives, alone and in a process group of one; tests/end_to_end/test_distributed.py uses several processes."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mnist_lit.system import distributed
from mnist_lit.system.distributed import all_gather_objects, is_peer_failure, rank_and_world_size, rank_ordered_mean


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """A process group with this process only."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_without_a_process_group_a_process_is_alone() -> None:
    assert rank_and_world_size() == (0, 1)
    assert all_gather_objects("mine") == ["mine"]
    assert not is_peer_failure(RuntimeError("gloo: connection closed by peer"))


@pytest.mark.usefixtures("group_of_one")
def test_a_process_group_of_one_gives_the_same() -> None:
    assert rank_and_world_size() == (0, 1)
    assert all_gather_objects(["mine"]) == [["mine"]]
    assert is_peer_failure(RuntimeError("gloo: connection closed by peer"))
    assert not is_peer_failure(RuntimeError("out of memory"))
    assert not is_peer_failure(ValueError("gloo"))


@pytest.mark.usefixtures("group_of_one")
def test_gradients_are_averaged() -> None:
    gradients = torch.tensor([1.0, 2.0])
    bucket: Any = SimpleNamespace(buffer=lambda: gradients)
    assert torch.equal(rank_ordered_mean(None, bucket).wait(), gradients)


class ThreeProcesses:
    """`torch.distributed` as rank 2 of 3 sees it: what the ranks send arrives in the order of their ranks."""

    DistError = dist.DistError

    def __init__(self, others: list[Any]) -> None:
        self.others = others  # of ranks 0 and 1

    def is_initialized(self) -> bool:
        return True

    def get_rank(self) -> int:
        return 2

    def get_world_size(self) -> int:
        return 3

    def all_gather_object(self, gathered: list[Any], mine: Any) -> None:
        gathered[:] = [*self.others, mine]

    def all_gather(self, gathered: list[Any], mine: Any, *, async_op: bool) -> Any:
        assert async_op
        for place, tensor in zip(gathered, [*self.others, mine], strict=True):
            place.copy_(tensor)
        future: torch.futures.Future[list[Any]] = torch.futures.Future()
        future.set_result(gathered)
        return SimpleNamespace(get_future=lambda: future)


def test_objects_are_gathered_in_the_order_of_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "dist", ThreeProcesses(["zero", "one"]))
    assert rank_and_world_size() == (2, 3)
    assert all_gather_objects("two") == ["zero", "one", "two"]


def test_gradients_are_added_in_the_order_of_the_ranks_and_divided_by_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # in float32 1e8 + 1 is 1e8, so another order of the second column's sum would give 0 or 1
    monkeypatch.setattr(distributed, "dist", ThreeProcesses([torch.tensor([1.0, 1e8]), torch.tensor([2.0, -1e8])]))
    mine = torch.tensor([6.0, 3.0])
    bucket: Any = SimpleNamespace(buffer=lambda: mine)
    assert rank_ordered_mean(None, bucket).wait().tolist() == [3.0, 1.0]
    monkeypatch.setattr(distributed, "dist", ThreeProcesses([torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1e8])]))
    mine = torch.tensor([6.0, -1e8])
    assert rank_ordered_mean(None, bucket).wait().tolist() == [3.0, 0.0]
    assert mine.tolist() == [6.0, -1e8]


def test_a_failed_collective_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: torch.futures.Future[Any] = torch.futures.Future()
    failed.set_exception(RuntimeError("connection closed by peer"))
    processes = ThreeProcesses([])
    monkeypatch.setattr(processes, "all_gather", lambda *_, **__: SimpleNamespace(get_future=lambda: failed))
    monkeypatch.setattr(distributed, "dist", processes)
    bucket: Any = SimpleNamespace(buffer=lambda: torch.zeros(1))
    with pytest.raises(RuntimeError, match="connection closed by peer"):
        rank_ordered_mean(None, bucket).wait()


@pytest.mark.usefixtures("group_of_one")
def test_an_error_of_the_backend_means_that_another_process_has_ended() -> None:
    assert is_peer_failure(dist.DistError("anything"))
