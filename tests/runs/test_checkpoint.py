"""Checkpoints are saved atomically, and loaded safely or refused in one line."""

import math
import multiprocessing
import os
import pickle
import random
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.model import TutorialCNN
from mnist_lit.module import MNISTModule
from mnist_lit.own_network import class_name
from mnist_lit.runs.checkpoint import (
    METADATA_KEY,
    AtomicCheckpointIO,
    Metadata,
    _check_zip,
    config_of,
    load_checkpoint,
    load_weights,
    network_of,
    require_network,
    save_checkpoint,
    strip_for_sharing,
    trained_weights,
    warm_start,
    with_ema_weights,
)
from mnist_lit.runs.resume import newest_readable
from mnist_lit.runs.versions import run_versions

METADATA = {"config": "model: {}\n", "data": "f00", "classes": ["0", "1"], "scores": {"val/acc": 0.5}, "curves": {}}


def content() -> dict[str, Any]:
    metadata = {**METADATA, "versions": {"mnist-lit": "2.0.0"}}
    more = {"hyper_parameters": {"num_classes": 2}, "global_step": 3, METADATA_KEY: metadata}
    return {"state_dict": nn.Linear(2, 1).state_dict(), **more}


class Payload:
    """Creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def test_a_saved_checkpoint_is_loaded_unchanged(tmp_path: Path) -> None:
    saved = content()
    AtomicCheckpointIO().save_checkpoint(saved, tmp_path / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "a.ckpt")
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
]


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_file_is_refused_in_one_line_and_runs_no_code(kind: str, tmp_path: Path) -> None:
    write_hostile(kind, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt .*checkpoint") as refused:
        load_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(refused.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "damage",
    [{"curves": {"metrics.csv": "12"}}, {"curves": [1]}, {"scores": {"val/acc": None}}, {"config": 5}, {"data": None},
     {"config": "model: 5"}, {"classes": ["0", "\x1b[2J"]}, {"classes": ["0", "0"]}, {"versions": {1: "2"}}],
    ids=str,
)  # fmt: skip
def test_damaged_metadata_are_refused(damage: dict[str, Any]) -> None:
    good = content()
    Metadata.of(good)
    with pytest.raises(InputError, match="metadata are damaged"):
        Metadata.of({**good, METADATA_KEY: good[METADATA_KEY] | damage})


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


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.slow)])
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


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        load_weights(nn.Linear(3, 1), content())


def test_missing_ema_weights_are_the_networks_own() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    expected = ["network.a", "ema.a"]
    assert with_ema_weights({"network.a": one}, expected) == {"network.a": one, "ema.a": one}
    both = {"network.a": one, "ema.a": two}
    assert with_ema_weights(both, expected) == both
    assert with_ema_weights({"network.a": one}, ["network.a"]) == {"network.a": one}


def test_the_trained_weights_are_the_averaged_ones_if_there_are_any() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    assert trained_weights({"state_dict": {"network.a.weight": one, "other": two}}) == {"a.weight": one}
    assert trained_weights({"state_dict": {"network.a.weight": one, "ema.a.weight": two}}) == {"a.weight": two}


class Own(nn.Sequential):
    """A network of your own."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))


def of_own_network(model: str) -> dict[str, Any]:
    """A checkpoint of a run that trained `Own`. model: the section of its configuration."""
    weights = {f"network.{name}": value for name, value in Own().state_dict().items()}
    hparams = {"num_classes": 10, "network": "my.models.Own"}
    metadata = {**content()[METADATA_KEY], "config": f"model: {model}\n"}
    return {"state_dict": weights, "hyper_parameters": hparams, METADATA_KEY: metadata}


def test_a_network_of_your_own_is_loaded_into_the_one_that_is_given() -> None:
    saved, network = of_own_network("{}"), Own()
    assert not network.get_parameter("1.weight").equal(saved["state_dict"]["network.1.weight"])
    assert network_of(saved, network) is network
    assert network.get_parameter("1.weight").equal(saved["state_dict"]["network.1.weight"])
    with pytest.raises(InputError, match="do not fit the network"):
        network_of(saved, Own(width=5))


def test_the_tutorials_network_needs_none() -> None:
    network = TutorialCNN(3)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    saved = {**content(), "state_dict": weights, "hyper_parameters": {"num_classes": 3, "network": ""}}
    require_network(saved, None)
    found = network_of(saved)
    assert isinstance(found, TutorialCNN)
    assert all(value.equal(weights[f"network.{name}"]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (
            "{}",
            "--model.network my.models.Own, and --model.network.NAME VALUE for each argument that it was given in "
            "Python",
        ),
        ("{network: my.models.Own}", "--model.network my.models.Own"),
        (
            "{network: {class_path: my.models.Own, init_args: {width: 7}}}",
            "--model.network my.models.Own --model.network.width 7",
        ),
        ("{network: {class_path: my.models.Own, init_args: [1]}}", "--model.network my.models.Own"),
        (
            "{network: {class_path: my.models.Own, init_args: {day: 2020-01-01}}}",
            "--model.network my.models.Own --model.network.day '\"2020-01-01\"'",
        ),
    ],
    ids=["an instance", "a name", "arguments", "damaged arguments", "an argument that JSON does not know"],
)
def test_a_checkpoint_of_another_network_names_the_options_to_add(model: str, options: str) -> None:
    with pytest.raises(InputError, match=f"network is not the tutorial's; add {options}; in Python, pass network=Own"):
        network_of(of_own_network(model))


def test_the_class_of_a_network_is_stored_as_text() -> None:
    assert class_name(Own()) == f"{__name__}.Own"
    assert class_name(None) == class_name("") == ""
    with pytest.raises(InputError, match=r"this checkpoint's network is my\.Own; load it with network=Own\(…\)"):
        class_name("my.Own")


def of_trainer(datamodule: object) -> Metadata:
    scores = {"val/acc": torch.tensor(0.5)}
    more = {"accumulate_grad_batches": 2, "precision": "32-true", "gradient_clip_val": None}
    trainer = SimpleNamespace(datamodule=datamodule, max_epochs=3, callback_metrics=scores, **more)
    return Metadata.of_trainer(trainer, MNISTModule(lr=0.25, seed=5).hparams)


def test_a_plain_trainers_checkpoint_describes_itself(digits_data: MNISTDataModule) -> None:
    metadata = of_trainer(digits_data)
    assert (metadata.data, metadata.classes) == (digits_data.fingerprint, tuple("0123456789"))
    assert metadata.scores == {"val/acc": 0.5}
    config = config_of({METADATA_KEY: metadata.to_dict()})
    assert (config["seed_everything"], config["trainer"]) == (
        5,
        {"max_epochs": 3, "accumulate_grad_batches": 2, "precision": "32-true"},
    )
    assert (config["model"]["lr"], config["data"]["dataset"], config["data"]["val_size"]) == (0.25, "digits", 180)
    linked = {"num_classes", "seed", "shuffle"}  # the command line would refuse them
    assert not linked & (config["model"].keys() | config["data"].keys())
    before = {"cpu": "2 × abacus"}
    resumed = replace(metadata, earlier=(before,))
    for one in (metadata, resumed):
        stored = {METADATA_KEY: one.to_dict(), "hyper_parameters": {"num_classes": 10}}
        assert Metadata.of(stored) == one
    assert resumed.history == (before, metadata.versions)
    again = Metadata.new("", "", [], {}, {}, [before, run_versions()])
    assert again.earlier == (before,)  # this machine is named once
    stored[METADATA_KEY]["earlier"] = ["abacus"]
    with pytest.raises(InputError, match="metadata are damaged"):
        Metadata.of(stored)


def test_other_data_has_no_fingerprint_and_numbered_classes() -> None:
    for datamodule in (None, object()):
        metadata = of_trainer(datamodule)
        assert (metadata.data, metadata.classes) == ("", tuple("0123456789"))
        assert config_of({METADATA_KEY: metadata.to_dict()})["data"] == {}


@pytest.mark.parametrize(("count", "fits"), [(-1, False), (0, False), (1, True), (10_000, True), (10_001, False)])
def test_the_number_of_classes_is_limited(count: int, fits: bool, tmp_path: Path) -> None:
    metadata = {**content()[METADATA_KEY], "classes": []}
    changed = {"hyper_parameters": {"num_classes": count}, METADATA_KEY: metadata}
    torch.save({**content(), **changed}, tmp_path / "a.ckpt")
    with nullcontext() if fits else pytest.raises(InputError, match="expected at most 10,000 classes"):
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
            save_checkpoint({**content(), "global_step": step}, tmp_path / "checkpoints" / name)
            assert load_checkpoint(tmp_path / "checkpoints" / name)["global_step"] == step
        assert tmp_path.joinpath("checkpoints/previous.ckpt").exists() == (name == "last.ckpt")
    assert load_checkpoint(tmp_path / "checkpoints/previous.ckpt")["global_step"] == 1
    tmp_path.joinpath("file").touch()
    with pytest.raises(OSError, match=r"cannot save .*file/a\.ckpt: "):
        save_checkpoint(content(), tmp_path / "file" / "a.ckpt")


@pytest.mark.parametrize("missing", ["loops", "train_scores"])
def test_lightning_resumes_from_complete_checkpoints_only(missing: str, tmp_path: Path) -> None:
    complete = {**content(), "loops": {}, "train_scores": []}
    save_checkpoint(complete, tmp_path / "a.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")["loops"] == {}
    del complete[missing]
    save_checkpoint(complete, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="has no training progress to resume from"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "change",
    [{"classes": ["0", "0"]}, {"classes": ["0"]}, {"classes": ["0", 1]}, {"scores": None}, {"versions": None}],
    ids=str,
)
def test_damaged_metadata_are_an_input_error(change: dict[str, Any]) -> None:
    damaged = {**content()[METADATA_KEY], **change}
    metadata = {name: value for name, value in damaged.items() if value is not None}
    with pytest.raises(InputError, match="metadata are damaged"):
        Metadata.of({METADATA_KEY: metadata, "hyper_parameters": {"num_classes": 2}})


def test_classes_without_names_are_numbered() -> None:
    older = {name: value for name, value in content()[METADATA_KEY].items() if name != "classes"}
    assert Metadata.of({METADATA_KEY: older, "hyper_parameters": {"num_classes": 3}}).classes == ("0", "1", "2")


CONFIG = """
seed_everything: 3
figures: true
config: run.yaml
model: {lr: 0.1, optimizer: sgd, network: my.Own, callbacks: [a], init_from: /me/runs/best.ckpt}
data: {data_dir: /me/data, mirrors: http, timeout: 3, val_size: 5}
trainer: {max_epochs: 2, precision: 16-mixed, strategy: my.Strategy, max_time: '1', default_root_dir: /me}
"""


def test_only_plain_settings_of_a_configuration_are_used() -> None:
    assert config_of({METADATA_KEY: {"config": CONFIG}}) == {
        "seed_everything": 3,
        "figures": True,
        "model": {"lr": 0.1, "optimizer": "sgd", "init_from": "/me/runs/best.ckpt"},
        "data": {"data_dir": "/me/data", "val_size": 5},
        "trainer": {"max_epochs": 2, "precision": "16-mixed", "max_time": "1"},
    }


@pytest.mark.parametrize("config", ["[1]", "model: {}", "seed_everything: x\nmodel: {}\ndata: {}\ntrainer: {}", "{"])
def test_a_damaged_configuration_is_an_input_error(config: str) -> None:
    with pytest.raises(InputError):
        config_of({METADATA_KEY: {"config": config}})


def test_a_shared_checkpoint_has_the_evaluated_weights_and_no_paths() -> None:
    weights = {"network.a": torch.ones(2, 3).T, "ema.a": torch.zeros(2, 3).T}
    hparams = {"num_classes": 2, "lr": 0.1, "init_from": "/me/runs/best.ckpt"}
    metadata = {**content()[METADATA_KEY], "config": CONFIG}
    full = {"state_dict": weights, "hyper_parameters": hparams, METADATA_KEY: metadata, "optimizer_states": [1]}
    shared = strip_for_sharing({**full, "global_step": 7, "epoch": 2, "pytorch-lightning_version": "2.6.6"})
    assert {*shared} == {"state_dict", "hyper_parameters", METADATA_KEY, "global_step", "epoch",
                         "pytorch-lightning_version"}  # fmt: skip
    assert [*shared["state_dict"]] == ["network.a"]
    assert shared["state_dict"]["network.a"].equal(weights["ema.a"])
    assert shared["state_dict"]["network.a"].is_contiguous()
    assert shared["hyper_parameters"] == {"num_classes": 2, "lr": 0.1, "init_from": "best.ckpt"}
    config = yaml.safe_load(shared[METADATA_KEY]["config"])
    assert config["data"] == {"val_size": 5}
    assert config["model"] == {**yaml.safe_load(CONFIG)["model"], "init_from": "best.ckpt"}
    assert "/me" not in str(shared)
    assert hparams["init_from"] == "/me/runs/best.ckpt"


def warm_started(weights: dict[str, torch.Tensor], network: nn.Module, folder: Path) -> nn.Module:
    save_checkpoint({**content(), "state_dict": {f"network.{k}": v for k, v in weights.items()}}, folder / "a.ckpt")
    warm_start([network], str(folder / "a.ckpt"))
    return network


def test_a_warm_start_takes_every_layer_that_fits_and_leaves_the_output_layer(tmp_path: Path) -> None:
    for classes in (10, 3):
        source, network = Own(), nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, classes))
        before = {name: value.clone() for name, value in network.state_dict().items()}
        after = warm_started(source.state_dict(), network, tmp_path).state_dict()
        expected = {**(source.state_dict() if classes == 10 else before)}
        expected |= {name: value for name, value in source.state_dict().items() if name.startswith("1.")}
        assert all(value.equal(expected[name]) for name, value in after.items())


def test_a_warm_start_from_another_network_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.Linear(5, 10))
    with pytest.raises(InputError, match=r"model\.init_from: .* does not match this network: 1\.weight is missing or"):
        warm_started(Own().state_dict(), network, tmp_path)


def test_a_plain_trainers_settings_are_stored_as_yaml_holds_them(digits_data: MNISTDataModule) -> None:
    settings = {"none": None, "flag": True, "whole": np.int64(3), "share": np.float32(0.5), "text": "a",
                "path": Path("b"), "object": object(), "num_classes": 3, "list": [1]}  # fmt: skip
    metadata = {"settings": settings, "fingerprint": "f00", "classes": ()}
    datamodule = SimpleNamespace(checkpoint_metadata=lambda: metadata)
    stored = of_trainer(datamodule)
    config = yaml.safe_load(stored.config)
    assert config["data"] == {"none": None, "flag": True, "whole": 3, "share": 0.5, "text": "a", "path": "b"}
    assert config["data"]["flag"] is True
    assert config["trainer"]["gradient_clip_val"] is None
    assert (stored.data, stored.classes, stored.curves) == ("f00", tuple("0123456789"), {})
