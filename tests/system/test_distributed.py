"""The collectives, alone and in a process group of one; tests/end_to_end/test_distributed.py uses several processes."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

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
