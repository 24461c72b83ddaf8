"""A network of your own on the command line: through every command that loads it, and never imported without asking."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.cli.network import build_network
from mnist_lit.errors import InputError

Cli = Callable[..., tuple[int, str, str]]
ErrorLine = Callable[..., str]
pytestmark = pytest.mark.usefixtures("small_calibration")

REFUSING = """
from torch import nn


class Refusing(nn.Module):
    def __init__(self) -> None:
        raise ValueError("one\\nand two")
"""

HERE = """
import pathlib

from torch import nn

pathlib.Path("imported").touch()


class Perceptron(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 10))


class Residual(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, stride=4)
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head((x + self.body(x)).relu().mean((2, 3)))
"""


def test_options_of_a_network_are_separated_from_the_others() -> None:
    parser = CommandParser("predict", "Read digits.")
    parser.add_argument("files", nargs="+")
    parser.add_model_argument("the model", positional=False)
    parser.add_network_argument()
    args = ["a.png", "--model.network", "x.Net", "--model", "latest", "--model.network.w=3", "b.png"]
    options = parser.parse_args(args)
    assert options.network == ["--model.network", "x.Net", "--model.network.w=3"]
    assert (options.files, options.model) == (["a.png", "b.png"], "latest")
    assert build_network(parser.parse_args(["a.png"]).network) is None


@pytest.mark.parametrize("command", ["predict", "export", "report", "calibrate"])
def test_the_help_of_every_command_that_takes_it_mentions_it(cli: Cli, command: str) -> None:
    assert re.search(r"--model\.network CLASS\s+the\s+network\s+of\s+your\s+own", cli(command, "--help")[1])


def test_what_a_network_refuses_is_told_completely() -> None:
    Path("own_refusing.py").write_text(REFUSING)
    with pytest.raises(
        InputError, match=r"model.network: cannot use --model.network own_refusing.Refusing: one and two$"
    ):
        build_network(["--model.network", "own_refusing.Refusing"])


def test_the_limits_of_yaml_hold_for_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jsonargparse._loaders_dumpers.yaml_default_loader", None)  # as in a new process
    with pytest.raises(InputError, match=r"model\.network: cannot use"):
        build_network(["--model.network", "torch.nn.Flatten", "--model.network.start_dim", "0x" + "f" * 30])


@pytest.mark.parametrize("name", [pytest.param("Perceptron", marks=pytest.mark.slow), "Residual"])
def test_a_network_of_ones_own_goes_through_every_command(
    cli: Cli, error_line: ErrorLine, tiny_fit: tuple[str, ...], images: torch.Tensor, name: str
) -> None:
    Path(f"own_{name.lower()}.py").write_text(HERE)
    own = ("--model.network", f"own_{name.lower()}.{name}")
    training = ("--model.ema_decay", "0.9", "--model.optimizer", "muon", "--model.sam_rho", "0.05")
    assert cli(*tiny_fit, *own, *training, "--trainer.max_epochs", "1")[0] == 0
    last = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    assert torch.load(last)["hyper_parameters"]["network"] == own[1]
    for command in (("test",), ("validate", "version_0"), ("export", "latest"), ("report",), ("calibrate",)):
        Path("imported").unlink(missing_ok=True)
        assert f"add --model.network {own[1]}" in error_line(*command)
        assert not Path("imported").exists()
        code, _, err = cli(*command, *own)
        assert code == 0, err
    Image.fromarray(255 - images[0].numpy()).resize((112, 112)).save("digit.png")
    assert "add --model.network" in error_line("predict", "digit.png", "--model", "version_0")
    assert cli("predict", "digit.png", "--model", "version_0", *own)[0] == 0
    code, _, err = cli("fit", "--ckpt_path", str(last), *own, "--trainer.max_epochs", "2")
    assert (code, err) == (0, "")
    assert f"add --model.network {own[1]}" in error_line("fit", "--ckpt_path", str(last), "--trainer.max_epochs", "3")


def test_a_run_is_not_continued_with_another_network(error_line: ErrorLine, tiny_run: Path) -> None:
    Path("own_residual.py").write_text(HERE)
    last = tiny_run / "checkpoints/last.ckpt"
    own = ("--model.network", "own_residual.Residual", "--trainer.max_epochs", "2")
    expected = f"cannot resume from {last}: its weights do not fit the network that the options describe"
    assert expected in error_line("fit", "--ckpt_path", str(last), *own)


def test_a_hostile_class_path_in_a_checkpoint_is_never_imported(
    cli: Cli, error_line: ErrorLine, tiny_run: Path
) -> None:
    Path("hostile.py").write_text("import pathlib\npathlib.Path('imported').touch()\n")
    content = torch.load(tiny_run / "checkpoints/best.ckpt")
    content["hyper_parameters"]["network"] = "hostile.Network"
    content["mnist_lit"]["config"] = content["mnist_lit"]["config"].replace(
        "network: null", "network: {class_path: hostile.Network, init_args: {width: 3}}"
    )
    torch.save(content, "hostile.ckpt")
    for command in ("test", "export", "calibrate", "report"):
        line = error_line(command, "hostile.ckpt")
        assert "add --model.network hostile.Network --model.network.width 3" in line
    assert "add --model.network" in error_line("fit", "--ckpt_path", "hostile.ckpt", "--trainer.max_epochs", "2")
    assert not Path("imported").exists()
