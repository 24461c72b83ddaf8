"""The processes that share a fit: which one this is, and what all of them hold. torch only."""

from typing import Any

import torch.distributed as dist

__all__ = ["gather", "lost", "place"]


def place() -> tuple[int, int]:
    """This process's rank among those that share a step, and how many they are."""
    return (dist.get_rank(), dist.get_world_size()) if _several() else (0, 1)


def gather(mine: Any) -> list[Any]:
    """What every process holds, by rank, on all of them. On the CPU: tensors come as they went."""
    if not _several():
        return [mine]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def lost(error: BaseException) -> bool:
    """Whether an error says that another process has ended."""
    return (
        _several() and isinstance(error, RuntimeError) and ("gloo" in str(error) or isinstance(error, dist.DistError))
    )


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
