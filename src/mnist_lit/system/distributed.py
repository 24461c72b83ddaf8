"""The processes that share a fit: which one this is, and what all of them hold. torch only."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_gather_objects", "is_peer_failure", "rank_and_world_size", "rank_ordered_mean"]


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank among those that share a step, and how many they are."""
    return (dist.get_rank(), dist.get_world_size()) if _several() else (0, 1)


def all_gather_objects(mine: Any) -> list[Any]:
    """What every process holds, by rank, on all of them. On the CPU: tensors come as they went."""
    if not _several():
        return [mine]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def rank_ordered_mean(
    state: object,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """DDP's mean of the gradients, added in the order of the ranks: a communication hook.

    An all-reduce adds in an order that depends on the place in a bucket, and DDP rearranges its buckets after
    the first step of each process: three processes that go on would round otherwise than three that never stopped.
    """
    mine = bucket.buffer()
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    work = dist.all_gather(everyone, mine, async_op=True)

    def mean(done: torch.futures.Future[Any]) -> Tensor:
        done.wait()
        total = everyone[0]
        for gradients in everyone[1:]:
            total += gradients
        return total.div_(len(everyone))

    return work.get_future().then(mean)


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error says that another process has ended."""
    return (
        _several() and isinstance(error, RuntimeError) and ("gloo" in str(error) or isinstance(error, dist.DistError))
    )


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
