"""`--help` of `fit` and `test`: what people set first, short, without broken cross-references."""

import re
from collections.abc import Callable

import pytest

from mnist_lit.cli.main import COMMANDS
from mnist_lit.runs.locate import MODEL_NAMES

Cli = Callable[..., tuple[int, str, str]]


def test_help_of_fit_is_short_and_in_the_order_of_use(cli: Cli) -> None:
    code, out, err = cli("fit", "--help")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 250
    assert max(map(len, out.splitlines())) <= 110
    places = [out.index(text) for text in ("recipes: best", "\nRun:", "\nModel:", "\nData:", "\nLightning's Trainer:")]
    assert places == sorted(places)
    assert not any(text in out for text in (":class:", ":paramref:", ":meth:", " --> ", "--group"))
    assert "val/acc, val/loss, val/ece" in out
    assert "--model.network" in out


def test_options_of_fit_are_explained_in_one_style(cli: Cli) -> None:
    out = cli("fit", "--help")[1]
    assert "\b" not in out  # which stands before one of jsonargparse's values
    assert "  --print_config                    print the complete configuration and exit\n" in out
    for explained in ("keep each epoch's checkpoint as checkpoints/epoch_1.ckpt and so on", "peak learning rate"):
        assert f"{explained} (default: " in " ".join(out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_default_is_in_parentheses(cli: Cli, command: str) -> None:
    assert not re.findall(r".{20}[^(]default: .{20}", " ".join(cli(command, "--help")[1].split()))


@pytest.mark.parametrize("command", ["test", "predict", "serve", "export"])
def test_each_command_lists_the_same_names_of_models(cli: Cli, command: str) -> None:
    assert MODEL_NAMES in " ".join(cli(command, "--help")[1].split())


def test_help_all_lists_every_option(cli: Cli) -> None:
    short, everything = (cli("fit", "--help", *more)[1] for more in ((), ("all",)))
    assert "--trainer.sync_batchnorm" not in short
    assert "--trainer.sync_batchnorm" in everything
    assert {*short.split()} & {"--model.lr", "--trainer.max_epochs"} == {"--model.lr", "--trainer.max_epochs"}


@pytest.mark.parametrize("command", ["test", "validate"])
def test_help_of_an_evaluation_lists_only_what_it_uses(cli: Cli, command: str) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert "--model NAME, --ckpt_path NAME" in out
    assert not {"--model.lr", "--data.degrees", "--trainer.max_epochs"} & {*out.split()}
