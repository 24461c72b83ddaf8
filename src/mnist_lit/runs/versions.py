"""What determines a run's exact result besides recipe, seed and data: software, machine and number of threads.

Every checkpoint records it, so it must not contain user or host names.
"""

import functools
import os
import platform
import re
import subprocess
from pathlib import Path

import lightning
import torch

from mnist_lit import __version__
from mnist_lit.system.gpu import gpu_versions

GIT_SECONDS = 2.0  # longest wait for git, on a slow disk or in a huge repository


def run_versions() -> dict[str, str]:
    """Versions, processors and threads of this process; the commit only in a checkout, the GPU only if it is used."""
    commit = checkout_commit()
    return {
        "mnist-lit": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "cpu": cpu_name(),
        "threads": str(torch.get_num_threads()),
        **gpu_versions(),
        **({"commit": commit} if commit else {}),
    }


@functools.cache
def cpu_name() -> str:
    """The number of logical processors and their model, such as `8 × AMD EPYC 9654`."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8", errors="replace"))
        model = names[0] if names else model
    return f"{os.cpu_count()} × {model}"


@functools.cache
def checkout_commit() -> str | None:
    """The commit of the git checkout that this package lies in, with `-dirty` if tracked files differ from it.

    None without git or such a checkout. A repository counts only if it tracks this very file, which excludes one around
    a virtual environment or around the working directory. Asked once, since later edits do not change the running code.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _git(*args: str) -> str:
    """What git prints in this file's folder, without the variables that name another repository in a hook."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"  # change nothing in the repository
    command = ["git", "-C", str(Path(__file__).parent), *args]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=env, timeout=GIT_SECONDS
    )
    return run.stdout.strip()
