"""Collectives over the processes of one fit; without a process group each works on this process alone. torch only."""

from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def all_gather_objects(mine: Any) -> list[Any]:
    """Every process's object in rank order, on all of them. The objects travel pickled, tensors included."""
    if not dist.is_initialized():
        return [mine]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    return gathered


# DDP's all-reduce adds in an order that depends on where a gradient lies in its bucket, and DDP rebuilds the buckets
# after the first step of each process: three resumed processes would round differently from three that never stopped.
# Adding in rank order costs more traffic and makes a resumed run exact.
def rank_ordered_mean(
    state: object,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # DDP compares the annotation, so it cannot be a string
) -> torch.futures.Future[Tensor]:
    """A DDP communication hook: the mean of the gradients, added in the order of the ranks."""
    mine = bucket.buffer()
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    work = dist.all_gather(gathered, mine, async_op=True)

    def mean(done: torch.futures.Future[Any]) -> Tensor:
        done.wait()
        return reduce(Tensor.add_, gathered).div_(len(gathered))

    return work.get_future().then(mean)


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error means that another process of this fit has ended."""
    is_from_backend = isinstance(error, dist.DistError) or "gloo" in str(error)
    return dist.is_initialized() and isinstance(error, RuntimeError) and is_from_backend
