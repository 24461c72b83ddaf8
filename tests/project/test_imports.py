"""The layers in pyproject.toml hold, and every public name is declared and documented."""

import ast
import importlib
from pathlib import Path
from types import FunctionType

import pytest
from importlinter.cli import lint_imports

import mnist_lit
from mnist_lit.cli.main import COMMANDS

SOURCE = Path(mnist_lit.__file__).parent
PACKAGES = sorted(path.parent for path in SOURCE.glob("**/__init__.py") if path.parent != SOURCE)
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.stem not in ("__init__", "__main__"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


def test_every_import_contract_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert lint_imports(no_logo=True, no_cache=True) == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_package_holds_an_overview_and_no_imports(package: Path) -> None:
    (overview,) = ast.parse(package.joinpath("__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(overview, ast.Expr)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_public_name_is_declared_exists_and_is_documented(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    assert module.__doc__
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, type | FunctionType):
            assert thing.__doc__, f"{name} has no docstring"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"}
    assert defined <= set(module.__all__)


def test_the_public_api_is_imported_on_first_use() -> None:
    for name in mnist_lit.__all__:
        assert getattr(mnist_lit, name)
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        mnist_lit.Classifier  # noqa: B018


def test_each_command_is_a_module_with_a_main() -> None:
    for module, description in COMMANDS.values():
        assert callable(importlib.import_module(f"mnist_lit.cli.{module}").main)
        assert description
