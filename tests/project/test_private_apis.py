"""Private APIs of other packages: each use is listed here, so that an upgrade that removes one fails with its name."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import mnist_lit

SOURCE = Path(mnist_lit.__file__).parent
PRIVATE = {  # where the attribute lives, the file that uses it, and the version it was checked against
    ("lightning.pytorch.cli:LightningCLI", "_parse_ckpt_path"): ("cli/lightning.py", "lightning 2.6.6"),
    ("lightning.pytorch.cli:LightningCLI", "_parser"): ("cli/lightning.py", "lightning 2.6.6"),
    ("lightning.pytorch.cli:LightningCLI", "_get"): ("cli/lightning.py", "lightning 2.6.6"),
    ("lightning.pytorch.callbacks:LearningRateFinder", "_num_training_steps"): ("cli/execute.py", "lightning 2.6.6"),
    ("jsonargparse._loaders_dumpers", "yaml_default_loader"): ("cli/jsonargparse_limits.py", "jsonargparse 4.53.0"),
    ("jsonargparse._paths:Path", "read_text"): ("cli/jsonargparse_limits.py", "jsonargparse 4.53.0"),
    ("argparse:ArgumentParser", "_actions"): ("cli/help.py", "Python 3.11"),
    ("argparse:ArgumentParser", "_option_string_actions"): ("cli/command_parser.py", "Python 3.11"),
    ("torch.utils.tensorboard:SummaryWriter", "_get_file_writer"): ("callbacks/tensorboard.py", "torch 2.15.0"),
    ("torch", "_foreach_add_"): ("optim.py", "torch 2.15.0"),
    ("torch", "_foreach_copy_"): ("optim.py", "torch 2.15.0"),
    ("torch", "_foreach_lerp_"): ("optim.py", "torch 2.15.0"),
    ("torch", "_foreach_mul"): ("optim.py", "torch 2.15.0"),
    ("optuna.trial:Trial", "_trial_id"): ("experiments/study.py", "optuna 5.0.0"),
    ("uvicorn.protocols.http.h11_impl", "H11Protocol"): ("inference/serve/server.py", "uvicorn 0.54.0"),
}
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
OWN = {"_asdict", "_replace", "_fields", "_make", "_exit"}  # public API of NamedTuple and of os


def bases(owner: type) -> list[type]:
    return [base for base in owner.__mro__ if base.__module__ != "builtins"]


def used_private_names(path: Path) -> set[str]:
    """Private attributes of objects that the file does not define itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - own - OWN
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize(("home", "name"), PRIVATE, ids=lambda value: value)
def test_a_private_api_that_we_use_still_exists(home: str, name: str) -> None:
    file, version = PRIVATE[home, name]
    module, _, attribute = home.partition(":")
    owner = importlib.import_module(module)
    owner = getattr(owner, attribute) if attribute else owner
    set_in_init = inspect.isclass(owner) and any(f"self.{name} = " in inspect.getsource(base) for base in bases(owner))
    assert hasattr(owner, name) or set_in_init, (
        f"{home}.{name}, which {file} uses, existed in {version} and is gone: adapt {file}"
    )


def test_no_other_private_api_is_used() -> None:
    listed: dict[str, set[str]] = {}
    for (_, name), (file, _) in PRIVATE.items():
        listed.setdefault(file, set()).add(name)
    for path in SOURCE.rglob("*.py"):
        file = path.relative_to(SOURCE).as_posix()
        assert used_private_names(path) <= listed.get(file, set()), file
