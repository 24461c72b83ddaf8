"""Which of a fit's processes this is, before torch knows. Standard library only."""

import os

# Set by torchrun, SLURM and Lightning's own launcher; on several nodes, the local rank alone does not tell.
RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this is the process that prints and writes for all of them, as its launcher's environment says."""
    return all(os.environ.get(name) in (None, "", "0") for name in RANKS)
