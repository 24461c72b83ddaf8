"""Options, config files and a checkpoint's settings: which one holds, and what a wrong one gives."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from mnist_lit.cli.config import typed_command
from shapes import shapes

Cli = Callable[..., tuple[int, str, str]]
ErrorLine = Callable[..., str]

pytestmark = pytest.mark.usefixtures("small_calibration")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--model.lrr 1", "unknown option --model.lrr; did you mean --model.lr?"),
        ("--lr=1", "unknown option --lr; did you mean --model.lr?"),
        ("--model.learning_rate 1", "unknown option --model.learning_rate; did you mean --model.lr?"),
        ("--model.lr fast", "model.lr: expected a number, got fast"),
        ("--model.lr=-1", "model.lr: expected above 0 and at most 1e30, got -1.0"),
        ("--model.optimizer adam", "expected sgd or adamw or muon, got adam; did you mean adamw?"),
        ("--model.nesterov maybe", "model.nesterov: expected true or false, got maybe"),
        ("--data.batch_size 0", "data.batch_size: expected 1 or more, got 0"),
        (
            "--data.dataset minst",
            "kmnist or qmnist or emnist or digits or folder, got minst; did you mean mnist?",
        ),
        ("--data.dataset digits --data.val_size 2000", "expected less than the 1437 images"),
        ("--data.mirrors http://127.0.0.1:9", "(http://127.0.0.1:9: "),
        ("--data.mirrors [a,b]", "; b: unknown url type: "),
        ("--data.mirrors a,b", "; b: unknown url type: "),
        ("--data.timeout 0", "data.timeout: expected seconds above 0, got 0"),
        ("--seed_everything true", "mnist-lit: seed_everything: expected a whole number"),
        ("--seed_everything -5", "mnist-lit: seed_everything: expected a whole number"),
        ("--trainer.max_epoch 3", "unknown option --trainer.max_epoch; did you mean --trainer.max_epochs?"),
        ("--trainer.max_epochs many", "trainer.max_epochs: expected a whole number, got many"),
        ("--trainer.precision 8", "trainer.precision: expected 64 or 32 or 16 or transformer-engine or"),
        ("--trainer.callbacks foo", "trainer.callbacks: cannot take foo"),
        ("--trainer.accelerator abacus", "abacus"),
        ("--trainer.strategy chess", "chess"),
        ("--trainer.devices 0", "trainer.devices: expected 1 or more, got 0"),
        ("--trainer.accelerator gpu", "trainer.accelerator: torch finds no GPU here; leave the option out, or use cpu"),
        ("--trainer.accelerator cuda", "trainer.accelerator: torch finds no GPU here; leave the option out, or use cp"),
        ("--trainer.accumulate_grad_batches 0", "trainer.accumulate_grad_batches: expected 1 or more, got 0"),
        (f"--trainer.max_steps {2**63}", "expected whole numbers below 2^63, got max_steps: 9223372036854775808"),
        (f"--data.split_seed {2**63} --resume auto", "expected whole numbers below 2^63, got split_seed: 92233"),
        (f"--data.classes {'x' * 70_000}", "the options cannot be saved: expected at most 64 KiB"),
        ("--trainer.devices 10000", "trainer.devices: expected 9999 or fewer, got 10000"),
        ("--trainer.val_check_interval .nan", "trainer.val_check_interval: expected above 0, got nan"),
        ("--data.data_dir a\x1bb", "--data.data_dir: expected no line breaks and control characters, got 'a\\x1bb'"),
    ],
)
def test_a_wrong_option_of_fit_gives_one_line(error_line: ErrorLine, options: str, line: str) -> None:
    assert line in error_line("fit", *options.split())
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--trainer.devices 9999", "or fewer CPU processes here, got 9999"),
        ("--trainer.max_epochs 0", "nothing to train"),
        ("--trainer.val_check_interval 100", "val_check_interval"),
        ("--trainer.max_time 00:00:00:01 --trainer.max_epochs -1", "linear needs an end"),
        ("--data.anneal 0.5 --trainer.max_steps 2", "data.anneal: needs a fixed number of epochs; set"),
    ],
)
def test_options_that_do_not_fit_together_give_one_line(
    error_line: ErrorLine, tiny_fit: tuple[str, ...], options: str, line: str
) -> None:
    assert line in error_line(*tiny_fit, *options.split())
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"model: {learning_rate: 1}", "unknown option model.learning_rate; did you mean model.lr?"),
        (b"data: {batchsize: 3}", "unknown option data.batchsize; did you mean data.batch_size?"),
        (b"modle: {lr: 3}", "unknown option modle.lr; did you mean model.lr?"),
        (b"model: [1", "mine.yaml"),
        (b"model: {lr: '\xff'}", "mine.yaml"),
        (b"just words", "mine.yaml"),
        (b"", "mine.yaml"),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_wrong_config_gives_one_line(error_line: ErrorLine, text: bytes, line: str) -> None:
    Path("mine.yaml").write_bytes(text)
    assert line in error_line("fit", "--config", "mine.yaml")


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"  # would not end with more lines


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"model": "laughs.yaml"}, "expected no aliases"),
        ({"model": {"network": "laughs.yaml"}}, "expected no aliases"),
        ({"model": {"network": "pipe.yaml"}}, "a pipe or a device"),
        ({"trainer": {"callbacks": "pipe.yaml"}}, "a pipe or a device"),
        ({"trainer": {"callbacks": ["laughs.yaml"]}}, "expected no aliases"),
        ({"model": yaml.safe_dump({"network": LAUGHS})}, "model: cannot take a: &a [x, x]"),
        ({"model": {"lr": LAUGHS}}, "model.lr: expected a number, got a: &a [x, x]"),
        ({"data": {"batch_size": "0x" + "f" * 5000}}, "data.batch_size: expected a whole number, got 0x"),
    ],
    ids=str,
)
def test_the_limits_of_yaml_hold_inside_strings_and_in_files_that_a_config_names(
    error_line: ErrorLine, config: dict[str, object], line: str
) -> None:
    os.mkfifo("pipe.yaml")
    Path("laughs.yaml").write_text(LAUGHS)
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    assert line in error_line("fit", "--config", "mine.yaml")


@pytest.mark.parametrize("setting", ["model.seed", "data.seed", "model.num_classes"])
def test_a_config_cannot_set_what_follows_from_another_setting(error_line: ErrorLine, setting: str) -> None:
    section, name = setting.split(".")
    Path("section.yaml").write_text(yaml.safe_dump({name: 7}))
    for content in ({section: {name: 7}}, {setting: 7}, {section: "section.yaml"}):
        Path("mine.yaml").write_text(yaml.safe_dump(content))
        assert f"{setting}: follows " in error_line("fit", "--config", "mine.yaml")


def test_a_section_in_a_file_of_its_own_must_be_options_and_not_too_large(error_line: ErrorLine) -> None:
    Path("mine.yaml").write_text("model: model.yaml\n")
    Path("model.yaml").write_text("[1, 2]\n")
    assert "model.yaml is not a section of a config" in error_line("fit", "--config", "mine.yaml")
    Path("mine.yaml").write_text("model: model.yaml\ndata: model.yaml\n")
    Path("model.yaml").write_text(yaml.safe_dump({"init_from": "x" * 40_000}))
    assert "mine.yaml: expected at most 64 KiB" in error_line("fit", "--config", "mine.yaml")


@pytest.mark.parametrize("listed", [True, False])
def test_a_misspelled_callback_in_a_config_is_named(error_line: ErrorLine, listed: bool) -> None:
    callback = {"class_path": "EarlyStoping", "init_args": {"monitor": "val/acc"}}
    Path("mine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback] if listed else callback}}))
    assert "cannot take EarlyStoping; did you mean EarlyStopping?" in error_line("fit", "--config", "mine.yaml")


def test_a_config_may_name_a_file_for_a_section(cli: Cli) -> None:
    Path("model.yaml").write_text("lr: 1e-3\n")
    Path("mine.yaml").write_text("model: model.yaml\n")
    options = "--data.dataset digits --data.val_size 180 --trainer.max_steps 1 --figures false"
    assert cli("fit", "--config", "mine.yaml", *options.split())[0] == 0
    config = yaml.safe_load(Path("lightning_logs/version_0/config.yaml").read_text())
    assert config["model"]["lr"] == 0.001


@pytest.mark.parametrize(
    "args",
    ["--model.lr 0.3 -c a.yaml --config=b.yaml", "-c=a.yaml -c b.yaml --model.lr=0.3"],
    ids=["options first", "options last"],
)
def test_options_beat_configs_and_later_configs_beat_earlier_ones(cli: Cli, args: str) -> None:
    Path("a.yaml").write_text("model: {lr: 0.1, momentum: 0.1}\ndata:\n", encoding="utf-8")
    Path("b.yaml").write_text("# année\nmodel: {momentum: 0.2, gamma: 0.2}\n", encoding="utf-8")
    code, out, err = cli("fit", *args.split(), "--print_config")
    assert (code, err) == (0, "")
    model = yaml.safe_load(out)["model"]
    assert (model["lr"], model["momentum"], model["gamma"]) == (0.3, 0.2, 0.2)


def test_a_runs_config_repeats_the_run(cli: Cli, tiny_run: Path) -> None:
    config = str(tiny_run / "config.yaml")
    assert cli("fit", "--config", config)[0] == 0
    one, two = (torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in range(2))
    assert all(one[name].equal(two[name]) for name in one)
    last = f"{tiny_run}/checkpoints/last.ckpt"
    code, out, _ = cli("test", "--config", config, "--ckpt_path", last)
    assert code == 0
    assert out.startswith(f"test: {last}\n")


@pytest.mark.parametrize("command", ["validate", "test"])
@pytest.mark.parametrize(
    "option", ["--keep_epochs=true", "--checkpoint_every_n_steps 5", "--resume auto", "--figures=0"]
)
def test_an_option_of_a_fit_is_refused_by_the_other_commands(
    error_line: ErrorLine, tiny_run: Path, command: str, option: str
) -> None:
    line = error_line(command, *option.split())
    assert line == f"mnist-lit: {option.replace('=', ' ').split()[0]} is an option of fit; leave it out\n"


def test_explicit_options_beat_the_checkpoint_and_are_printed(cli: Cli, tiny_run: Path) -> None:
    code, out, _ = cli("validate", "--data.val_size", "200", "--data.batch_size", "8")
    assert code == 0
    assert "data.val_size: 200 instead of the checkpoint's 64\n" in out
    assert "batch_size" not in out
    assert "images        200" in out


def test_the_data_folder_of_a_checkpoint_is_not_that_of_another_dataset(cli: Cli) -> None:
    shapes(train=2, test=1)
    folder = ("--data.dataset", "folder", "--data.data_dir", "my-shapes")
    assert cli("fit", *folder, "--data.val_size", "0", "--data.batch_size", "2", "--trainer.max_steps", "1")[0] == 0
    code, out, err = cli("test", "version_0", "--data.dataset", "digits")
    assert (code, "but the data has 0, 1, 2, " in err) == (2, True)  # it was read
    assert "data.data_dir: data instead of the checkpoint's my-shapes\n" in out
    code, out, _ = cli("test", "version_0", "--data.dataset", "folder")
    assert (code, "data.data_dir" in out) == (0, False)


def test_a_resumed_fit_keeps_its_settings_except_for_explicit_options(cli: Cli, tiny_run: Path) -> None:
    options = ("--trainer.max_epochs", "3", "--model.momentum", "0.5")
    code, out, _ = cli("fit", "--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"), *options)
    assert code == 0
    assert "model.momentum: 0.5 instead of the checkpoint's 0.9\n" in out
    assert "3  (6 steps)" in out
    config = yaml.safe_load(Path("lightning_logs/version_1/config.yaml").read_text())
    assert (config["model"]["lr"], config["model"]["momentum"]) == (0.03, 0.5)


def test_a_resumed_fit_does_not_take_mirrors_and_hardware_from_the_checkpoint(cli: Cli, tiny_run: Path) -> None:
    content = torch.load(tiny_run / "checkpoints/last.ckpt")
    config = yaml.safe_load(content["mnist_lit"]["config"])
    config["data"]["mirrors"] = "http://127.0.0.1:9"
    config["trainer"] |= {"devices": 9999, "num_nodes": 2, "accumulate_grad_batches": 2}
    content["mnist_lit"]["config"] = yaml.safe_dump(config)
    torch.save(content, "elsewhere.ckpt")
    assert cli("fit", "--ckpt_path", "elsewhere.ckpt", "--trainer.max_epochs", "2")[0] == 0
    text = Path("lightning_logs/version_1/config.yaml").read_text()
    assert "127.0.0.1" not in text
    trainer = yaml.safe_load(text)["trainer"]
    assert (trainer["devices"], trainer["num_nodes"], trainer["accumulate_grad_batches"]) == ("auto", 1, 2)


def test_a_recipe_may_have_options_that_only_other_choices_use(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    """A sweep over the optimizer or a config for one machine sets them once for all."""
    unused = ("--model.optimizer", "adamw", "--model.nesterov", "true", "--data.mirrors", "http://127.0.0.1:9")
    assert cli(*tiny_fit, *unused, "--trainer.max_epochs", "1")[0] == 0
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert cli("fit", "--ckpt_path", last, "--trainer.max_epochs", "2")[0] == 0


@pytest.mark.parametrize(("option", "value"), [("optimizer", "adamw"), ("ema_decay", "0.9")])
def test_a_run_cannot_be_resumed_with_another_optimizer_or_ema(
    error_line: ErrorLine, tiny_run: Path, option: str, value: str
) -> None:
    last = str(tiny_run / "checkpoints/last.ckpt")
    line = error_line("fit", "--ckpt_path", last, f"--model.{option}", value, "--trainer.max_epochs", "2")
    assert f"model.{option}: " in line


def test_a_checkpoint_path_may_contain_an_equals_sign(cli: Cli, tiny_run: Path) -> None:
    tiny_run.joinpath("checkpoints/best.ckpt").rename("epoch=1-step=2.ckpt")
    for args in (["--ckpt_path", "epoch=1-step=2.ckpt"], ["--ckpt_path=epoch=1-step=2.ckpt"]):
        code, out, _ = cli("validate", *args)
        assert code == 0
        assert out.startswith("validate: epoch=1-step=2.ckpt\n")


@pytest.mark.parametrize("config", ["", "[1", "model: 3", "{}", "- 1", "seed_everything: 0\nmodel: {}\ndata: {}\n"])
def test_a_checkpoint_with_a_damaged_configuration_is_refused(
    error_line: ErrorLine, tiny_run: Path, config: str
) -> None:
    content = torch.load(tiny_run / "checkpoints/best.ckpt")
    content["mnist_lit"]["config"] = config
    torch.save(content, "damaged.ckpt")
    assert "damaged" in error_line("test", "--ckpt_path", "damaged.ckpt")


def test_a_checkpoints_configuration_cannot_import_code(cli: Cli, tiny_run: Path) -> None:
    content = torch.load(tiny_run / "checkpoints/last.ckpt")
    config = yaml.safe_load(content["mnist_lit"]["config"])
    for name, value in (("callbacks", [{"class_path": "this.X"}]), ("logger", "this.X"), ("profiler", "this.X")):
        config["trainer"][name] = value
    content["mnist_lit"]["config"] = yaml.safe_dump(config)
    torch.save(content, "hostile.ckpt")
    sys.modules.pop("this", None)
    assert cli("fit", "--ckpt_path", "hostile.ckpt", "--trainer.max_epochs", "2")[0] == 0
    assert "this" not in sys.modules


def test_a_checkpoint_that_a_config_names_is_part_of_the_typed_command() -> None:
    """Otherwise a run that continued it, and was killed before its first save, would restart from random weights."""
    args = ["fit", "--config", "quickstart"]
    assert typed_command(args, None) == "mnist-lit fit --config quickstart"
    assert typed_command(args, "a.ckpt") == "mnist-lit fit --config quickstart --ckpt_path a.ckpt"
    assert typed_command([*args, "--ckpt_path=last"], "a.ckpt") == "mnist-lit fit --config quickstart --ckpt_path=last"
