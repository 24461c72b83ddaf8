"""Files are loaded safely or refused in one line."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnist_lit import checkpoint
from mnist_lit.errors import InputError


def content() -> dict[str, object]:
    said = checkpoint.provenance("model: {}\n", "f00", {"val/acc": torch.tensor(0.5)})
    return {"state_dict": nn.Linear(2, 1).state_dict(), checkpoint.KEY: said}


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "a.ckpt")
    loaded = checkpoint.load(tmp_path / "a.ckpt")
    assert loaded[checkpoint.KEY]["scores"] == {"val/acc": 0.5}
    assert loaded[checkpoint.KEY]["config"] == "model: {}\n"
    assert set(loaded[checkpoint.KEY]["versions"]) == {"mnist-lit", "python", "torch", "lightning"}


def hostile(kind: str, path: Path) -> None:
    torch.save(content(), path)
    whole = path.read_bytes()
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "payload":
        torch.save({**content(), "extra": Payload()}, path)
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello", "world")
    elif kind == "another project's":
        torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "os.mkdir", "path": "ran"}}, path)
    elif kind == "a list":
        torch.save([1, 2], path)


@pytest.mark.parametrize(
    "kind", ["text", "empty", "truncated", "payload", "bare pickle", "zip", "another project's", "a list"]
)
def test_anything_else_is_refused_in_one_line_and_runs_nothing(kind: str, tmp_path: Path) -> None:
    hostile(kind, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt is no checkpoint") as refused:
        checkpoint.load(tmp_path / "a.ckpt")
    assert "\n" not in str(refused.value)
    assert not Path("ran").exists()


def test_the_payload_would_run_if_it_were_let(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload()))
    assert Path("ran").exists()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"no checkpoint at gone\.ckpt"):
        checkpoint.load("gone.ckpt")


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        checkpoint.load_weights(nn.Linear(3, 1), content())
