"""The import contracts of pyproject.toml hold, and every public name is declared and documented."""

import ast
import importlib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import mnist_lit
from mnist_lit.cli.main import COMMANDS

SOURCE = Path(mnist_lit.__file__).parent
PACKAGES = sorted(path.parent for path in SOURCE.glob("**/__init__.py") if path.parent != SOURCE)
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.stem not in ("__init__", "__main__"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


def test_the_import_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert lint_imports(no_logo=True, no_cache=True) == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_package_init_is_a_docstring_and_nothing_else(package: Path) -> None:
    (docstring,) = ast.parse(package.joinpath("__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_every_module_and_public_name_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_only_say_prints() -> None:
    """It keeps names and values from outside from controlling the terminal."""
    calls = ((path, node) for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    printing = [path.name for path, node in calls if isinstance(node, ast.Name) and node.id == "print"]
    assert printing == ["console.py"]


def test_the_public_api_is_imported_lazily() -> None:
    for name in mnist_lit.__all__:
        assert getattr(mnist_lit, name)
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        mnist_lit.Classifier  # noqa: B018


def test_every_command_has_a_module_with_a_main_function() -> None:
    for module, description in COMMANDS.values():
        assert callable(importlib.import_module(f"mnist_lit.cli.{module}").main)
        assert description
