"""Checkpoints are saved atomically, and loaded safely or refused in one line."""

import errno
import math
import multiprocessing
import os
import pickle
import random
import zipfile
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import AtomicCheckpointIO, _check_zip, load_checkpoint, save_checkpoint
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.runs.resume import newest_readable
from runs.contents import content


class Payload:
    """Creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def test_a_saved_checkpoint_is_loaded_unchanged(tmp_path: Path) -> None:
    saved, path = content(), tmp_path / "new/folders/a.ckpt"  # made on saving, as by Lightning's own plugin
    AtomicCheckpointIO().save_checkpoint(saved, path)
    loaded = load_checkpoint(path)
    assert loaded[METADATA_KEY] == saved[METADATA_KEY]
    assert all(weights.equal(loaded["state_dict"][name]) for name, weights in saved["state_dict"].items())


def write_hostile(kind: str, path: Path) -> None:
    """A file that is not a checkpoint of ours, or only nearly."""
    torch.save(content(), path)
    intact = path.read_bytes()
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(intact[: len(intact) // 2])
    elif kind == "payload":
        torch.save({**content(), "extra": Payload()}, path)
    elif kind == "payload in the optimizer":
        torch.save({**content(), "optimizer_states": [{"state": {0: Payload()}}]}, path)
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "torch's old format":
        torch.save({**content(), "extra": Payload()}, path, _use_new_zipfile_serialization=False)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello", "world")
    elif kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(200_000_000))
    elif kind == "compressed":
        with zipfile.ZipFile(path) as stored, zipfile.ZipFile("b", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in stored.namelist():
                archive.writestr(name, stored.read(name))
        Path("b").replace(path)
    elif kind == "another project's":
        torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "os.mkdir", "path": "ran"}}, path)
    elif kind in ("_instantiator", "_class_path", "class_path"):
        torch.save({**content(), "hyper_parameters": {kind: "os.mkdir", "name": "ran"}}, path)
    elif kind == "odd hyper-parameters":
        torch.save({**content(), "hyper_parameters": [1]}, path)
    elif kind == "few bytes that pose as gigabytes":
        torch.save({**content(), "optimizer_states": [{"state": torch.zeros(1).expand(10**12)}]}, path)
    elif kind == "no step":
        torch.save({**content(), "global_step": "3"}, path)
    elif kind == "millions of classes":
        torch.save({**content(), "hyper_parameters": {"num_classes": 10**7}}, path)
    elif kind == "a network that is not text":
        torch.save({**content(), "hyper_parameters": {"num_classes": 2, "network": 5}}, path)
    elif kind == "a list":
        torch.save([1, 2], path)
    elif kind == "lists that hold another one twice":
        torch.save({**content(), "optimizer_states": nested(40, twice=True)}, path)
    elif kind == "lists within lists":
        torch.save({**content(), "optimizer_states": nested(40)}, path)
    elif kind == "a list that holds itself":
        (endless := list[Any]()).append(endless)
        torch.save({**content(), "optimizer_states": endless}, path)
    elif kind == "a tensor without data":
        torch.save({**content(), "state_dict": {"weights": torch.empty(2, device="meta")}}, path)
    elif kind == "weights without names":
        torch.save({**content(), "state_dict": [torch.ones(2)]}, path)
    elif kind == "an infinite best score":
        torch.save({**content(), "best": [math.inf, 0.0, 1]}, path)
    elif kind == "half a best score":
        torch.save({**content(), "best": [0.5]}, path)
    elif kind == "a log of negative length":
        torch.save({**content(), METADATA_KEY: {**content()[METADATA_KEY], "curves": {"metrics.csv": -5}}}, path)


def nested(depth: int, *, twice: bool = False) -> list[Any]:
    """Lists within lists; 2^depth of them if each is there twice, in a file of some bytes."""
    outer: list[Any] = []
    for _ in range(depth):
        outer = [outer, outer] if twice else [outer]
    return outer


KINDS = [
    *("text", "empty", "truncated", "payload", "payload in the optimizer", "bare pickle", "torch's old format", "zip"),
    *("zip bomb", "compressed", "another project's", "_instantiator", "_class_path", "class_path"),
    *("odd hyper-parameters", "a list", "few bytes that pose as gigabytes", "millions of classes", "no step"),
    *("lists that hold another one twice", "lists within lists", "a list that holds itself", "a tensor without data"),
    *("weights without names", "an infinite best score", "half a best score", "a log of negative length"),
    "a network that is not text",
]


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_file_is_refused_in_one_line_and_runs_no_code(kind: str, tmp_path: Path) -> None:
    write_hostile(kind, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt .*checkpoint") as refused:
        load_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(refused.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(number: float, tmp_path: Path) -> None:
    damaged = content()
    next(iter(damaged["state_dict"].values())).flatten()[0] = number
    torch.save(damaged, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt .* has weights that are not finite"):
        load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("weights", "fits"),
    [
        (torch.full((2,), 1e300, dtype=torch.float64), True),
        (torch.full((2,), math.inf, dtype=torch.float64), False),
        (torch.full((2,), complex(1, math.nan), dtype=torch.complex64), False),
        (torch.ones(2, dtype=torch.complex64), True),
        (torch.ones(2, dtype=torch.bfloat16), True),
        (torch.full((2,), math.nan, dtype=torch.float16), False),
        (torch.ones(2, dtype=torch.uint16), True),
        (torch.ones(2, dtype=torch.bool), True),
    ],
    ids=str,
)
def test_any_dtype_is_read_if_its_numbers_are_finite(weights: torch.Tensor, fits: bool, tmp_path: Path) -> None:
    torch.save({**content(), "state_dict": {"weights": weights}}, tmp_path / "a.ckpt")
    with nullcontext() if fits else pytest.raises(InputError, match="has weights that are not finite"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_an_exported_model_is_said_to_be_no_checkpoint(tmp_path: Path) -> None:
    tmp_path.joinpath("a.onnx").touch()
    with pytest.raises(InputError, match=r"a checkpoint \(.ckpt\), got .*a.onnx; exported models are for `predict`"):
        load_checkpoint(tmp_path / "a.onnx")


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    write_hostile("truncated", tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"damaged, cut off or of another kind"):
        load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(errno.EIO, "Input/output error"), "Input/output error"), (MemoryError(), "out of memory")],
)
def test_a_file_that_cannot_be_read_now_is_not_taken_for_damaged(
    error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    torch.save(content(), tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="cannot read") as raised:
        load_checkpoint(tmp_path / "a.ckpt")
    assert str(raised.value) == f"cannot read {tmp_path}/a.ckpt: {reason}"


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(content(), path)
    intact, expected = path.read_bytes(), load_checkpoint(path)
    refused = 0
    for position in range(0, len(intact), 7):
        flipped = bytearray(intact)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            read = load_checkpoint(path)
        except InputError:
            refused += 1
        else:
            assert read[METADATA_KEY] == expected[METADATA_KEY]
            assert all(weights.equal(read["state_dict"][name]) for name, weights in expected["state_dict"].items())
    assert refused > len(intact) / 7 / 4  # the other bits are padding, dates and the like


def test_torch_alone_would_accept_damaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    weights = torch.full((64,), 3.0)
    torch.save({**content(), "state_dict": {"weights": weights}}, path)
    path.write_bytes(path.read_bytes().replace(weights.numpy().tobytes(), (weights * 2).numpy().tobytes()))
    assert torch.load(path, weights_only=True)["state_dict"]["weights"][0] == 6
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


def save_repeatedly(run: Path, done: Connection) -> None:
    """Save and report each step, until killed."""
    state: dict[str, object] = {"loops": {}, "best": None, "train_scores": []}
    big = {**content(), **state, "state_dict": {"weights": torch.arange(500_000.0)}}
    for step in range(1_000_000):
        AtomicCheckpointIO().save_checkpoint({**big, "global_step": step}, run / "checkpoints/last.ckpt")
        done.send(step)


@pytest.mark.parametrize("kills", [1, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_during_a_save_never_loses_a_saved_step(kills: int, tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mnist_lit.runs.checkpoint"])
    draw = random.Random(0)
    between = during = 0
    for number in range(kills):
        run = tmp_path / f"version_{number}"
        run.joinpath("checkpoints").mkdir(parents=True)
        ours, theirs = processes.Pipe(duplex=False)
        saver = processes.Process(target=save_repeatedly, args=(run, theirs))
        saver.start()
        assert ours.poll(300)  # a busy machine takes a minute to import torch
        done = ours.recv()
        for _ in range(draw.randrange(4)):
            done = ours.recv()
        pause = draw.random() * 0.02
        saver.join(pause)
        saver.kill()
        saver.join()
        while ours.poll():
            try:
                done = ours.recv()
            except EOFError:
                break
        during += any(run.glob("checkpoints/.*.part"))
        newest = newest_readable(run)
        assert newest
        assert load_checkpoint(newest)["global_step"] >= done
        if newest.name != "last.ckpt":  # killed between two renames; no file is torn
            assert not run.joinpath("checkpoints/last.ckpt").exists()
            between += 1
    print(f"{kills} kills, {during} while a file was written, {between} between two renames, no file torn")
    assert during or kills < 100  # a few kills may all miss it


def test_unpickling_the_payload_would_run_it() -> None:
    pickle.loads(pickle.dumps(Payload()))
    assert Path("ran").exists()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"no checkpoint at gone\.ckpt"):
        load_checkpoint("gone.ckpt")


@pytest.mark.parametrize(("count", "fits"), [(-1, False), (0, False), (1, True), (10_000, True), (10_001, False)])
def test_the_number_of_classes_is_limited(count: int, fits: bool, tmp_path: Path) -> None:
    metadata = {**content()[METADATA_KEY], "classes": [*map(str, range(count))]}
    changed = {"hyper_parameters": {"num_classes": count}, METADATA_KEY: metadata}
    torch.save({**content(), **changed}, tmp_path / "a.ckpt")
    with nullcontext() if fits else pytest.raises(InputError, match="expected 1 … 10,000 classes"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_checkpoint_says_how_many_classes_it_has(tmp_path: Path) -> None:
    torch.save({**content(), "hyper_parameters": {"lr": 0.1}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="expected 1 … 10,000 classes"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_tensor_may_be_as_large_as_its_data_and_no_larger(tmp_path: Path) -> None:
    state = torch.arange(12.0)
    for tensor, fits in ((state.view(3, 4).T, True), (state[:1].expand(12), True), (state[:1].expand(13), False)):
        torch.save({**content(), "optimizer_states": [{"state": {"step": (tensor,)}}]}, tmp_path / "a.ckpt")
        with nullcontext() if fits else pytest.raises(InputError, match="ValueError"):
            assert load_checkpoint(tmp_path / "a.ckpt")["optimizer_states"][0]["state"]["step"][0].equal(tensor)


def test_weights_that_are_not_numbers_with_a_point_may_be_anything(tmp_path: Path) -> None:
    damaged = content()
    damaged["state_dict"]["count"] = torch.tensor([1, 2])
    torch.save({**damaged, "optimizer_states": [torch.tensor(float("nan"))]}, tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt")["state_dict"]["count"].tolist() == [1, 2]


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one", bytes(5000))
        archive.filelist *= 3  # three entries with the same bytes
    with pytest.raises(zipfile.BadZipFile, match="overlapping"):
        _check_zip(path)


def test_only_last_ckpt_keeps_the_one_before_it(tmp_path: Path) -> None:
    for name in ("best.ckpt", "epoch_1.ckpt", "last.ckpt"):
        for step in (1, 2):
            AtomicCheckpointIO().save_checkpoint({**content(), "global_step": step}, tmp_path / "checkpoints" / name)
            assert load_checkpoint(tmp_path / "checkpoints" / name)["global_step"] == step
        assert tmp_path.joinpath("checkpoints/previous.ckpt").exists() == (name == "last.ckpt")
    assert load_checkpoint(tmp_path / "checkpoints/previous.ckpt")["global_step"] == 1
    tmp_path.joinpath("file").touch()
    with pytest.raises(OSError, match=r"cannot save .*file/a\.ckpt: "):
        save_checkpoint(content(), tmp_path / "file" / "a.ckpt")


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("loops", "has no training progress to resume from"),
        ("train_scores", "has no training progress to resume from"),
        ("optimizer_states", "holds weights only; use --model.init_from to start from them"),
    ],
)
def test_lightning_resumes_from_complete_checkpoints_only(missing: str, reason: str, tmp_path: Path) -> None:
    complete = {**content(), "loops": {}, "train_scores": [], "optimizer_states": []}
    save_checkpoint(complete, tmp_path / "a.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")["loops"] == {}
    del complete[missing]
    save_checkpoint(complete, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=reason):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
