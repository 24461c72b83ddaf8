"""Private APIs of other packages: each use is listed here, so that an upgrade that removes one fails with its name."""

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

import mnist_lit

SOURCE = Path(mnist_lit.__file__).parent
PRIVATE = {  # where the attribute lives, the file that uses it, and the version it was checked against
    ("lightning.pytorch.cli:LightningCLI", "_parse_ckpt_path"): ("cli/lightning.py", "lightning 2.6.6"),
    ("lightning.pytorch.cli:LightningCLI", "_parser"): ("cli/lightning.py", "lightning 2.6.6"),
    ("lightning.pytorch.cli:LightningCLI", "_get"): ("cli/lightning.py", "lightning 2.6.6"),
    ("lightning.pytorch.callbacks:LearningRateFinder", "_num_training_steps"): ("cli/execute.py", "lightning 2.6.6"),
    ("lightning.pytorch:LightningModule", "_trainer"): ("exact_resume.py", "lightning 2.6.6"),
    ("lightning.pytorch.loops.fit_loop:_FitLoop", "_iteration_based_training"): ("exact_resume.py", "lightning 2.6.6"),
    ("jsonargparse._loaders_dumpers", "yaml_default_loader"): ("cli/jsonargparse_limits.py", "jsonargparse 4.53.0"),
    ("jsonargparse._paths:Path", "read_text"): ("cli/jsonargparse_limits.py", "jsonargparse 4.53.0"),
    ("lightning.pytorch:LightningModule", "_hparams_initial"): ("hyperparameters.py", "lightning 2.6.6"),
    ("lightning.pytorch.callbacks:RichProgressBar", "_get_train_description"): (
        "callbacks/progress.py",
        "lightning 2.6.6",
    ),
    ("argparse:ArgumentParser", "_actions"): ("cli/help.py", "Python 3.11"),
    ("argparse:ArgumentParser", "_option_string_actions"): ("cli/command_parser.py", "Python 3.11"),
    ("torch.utils.tensorboard:SummaryWriter", "_get_file_writer"): ("callbacks/tensorboard.py", "torch 2.15.0"),
    ("torch.optim.lr_scheduler:LRScheduler", "_last_lr"): ("optim.py", "torch 2.15.0"),
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


@cache
def source(owner: type) -> str:
    return inspect.getsource(owner)


def has_attribute(owner: object, name: str) -> bool:
    """Whether a module or a class has an attribute, or a class's methods use one of that name."""
    uses = re.compile(rf"\bself\.{name}\b")
    return hasattr(owner, name) or (inspect.isclass(owner) and any(uses.search(source(base)) for base in bases(owner)))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def used_private_names(path: Path) -> set[str]:
    """Private attributes of objects that the file does not define itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - own - OWN
    return {*filter(is_private, names)} | overridden_private_names(path, tree)


def overridden_private_names(path: Path, tree: ast.Module) -> set[str]:
    """Private attributes and methods of other packages' classes that their subclasses in the file set or define."""
    module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    found: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or not node.bases:
            continue
        owner = getattr(importlib.import_module(module), node.name)
        foreign = [base for base in bases(owner) if base.__module__.partition(".")[0] not in ("mnist_lit", "typing")]
        names = {part.name for part in node.body if isinstance(part, DEFINITIONS)}
        names |= {
            part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        }
        found |= {name for name in filter(is_private, names) if any(has_attribute(base, name) for base in foreign)}
    return found


@pytest.mark.parametrize(("home", "name"), PRIVATE, ids=lambda value: value)
def test_a_private_api_that_we_use_still_exists(home: str, name: str) -> None:
    file, version = PRIVATE[home, name]
    module, _, attribute = home.partition(":")
    owner = importlib.import_module(module)
    owner = getattr(owner, attribute) if attribute else owner
    assert has_attribute(owner, name), (
        f"{home}.{name}, which {file} uses, existed in {version} and is gone: adapt {file}"
    )


def test_no_other_private_api_is_used() -> None:
    listed: dict[str, set[str]] = {}
    for (_, name), (file, _) in PRIVATE.items():
        listed.setdefault(file, set()).add(name)
    for path in SOURCE.rglob("*.py"):
        file = path.relative_to(SOURCE).as_posix()
        assert used_private_names(path) <= listed.get(file, set()), file
