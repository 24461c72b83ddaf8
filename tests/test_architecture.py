"""The house: each room on its floor, every import pointing down."""

import ast
import importlib
import sys
from pathlib import Path
from types import FunctionType

import mnist_lit

FLOORS = [
    {
        "errors",
        "files",
        "download",
        "memory",
        "processes",
        "stats",
        "records",
        "ink",
    },  # what knows nothing of digits
    {"layout", "strokes", "suggest"},
    {
        "network",
        "pixels",
        "pictures",
        "order",
        "optimizers",
        "runs",
        "archives",
        "figures",
        "signals",
        "curves",
        "recipes",
        "children",
        "space",
    },
    {"digits", "augment", "continental", "nondigits", "checkpoint", "models"},
    {"calibration", "classifier", "folder"},
    {"datamodule", "callbacks", "tables", "resume", "reader", "study"},
    {
        "engine",
        "summary",
        "fetch",
        "history",
        "verify",
        "group",
        "sweep",
        "compare",
        "calibrate",
        "predict",
        "export",
        "serve",
        "report",
    },
    {"cli"},
    {"__main__"},
]
SOURCE = Path(mnist_lit.__file__).parent
LIGHT = {
    "cli",
    "errors",
    "models",
    "recipes",
    "records",
    "runs",
    "signals",
    "suggest",
    "history",
    "__main__",
}  # what `--help` loads: the standard library only
ALLOWED = {  # what some rooms may import beside the standard library and rooms below
    "network": {"torch"},
    "order": {"torch"},
    "processes": {"torch"},
    "augment": {"torch"},
    "continental": {"torch"},
    "nondigits": {"numpy", "PIL", "scipy"},
    "reader": {"numpy", "onnxruntime", "torch"},  # torch for a checkpoint only
    "predict": {"numpy", "PIL", "rich"},
    "optimizers": {"torch"},
    "ink": {"numpy", "scipy"},
    "layout": {"numpy", "scipy"},
    "strokes": {"numpy", "scipy"},
    "pixels": {"numpy", "PIL", "scipy"},
    "pictures": {"numpy", "PIL"},
    "figures": {"numpy", "PIL"},
    "report": {"jinja2", "lightning", "markupsafe", "numpy", "torch"},
    "stats": {"numpy", "scipy"},
    "memory": set(),
    "children": {"yaml"},
    "space": {"yaml"},
    "study": {"filelock", "optuna", "sqlalchemy"},
    "sweep": {"yaml"},  # no torch, no lightning
    "files": set(),
    "download": {"rich"},
    "archives": {"filelock", "torchvision"},
    "serve": {
        "PIL",
        "anyio",
        "fastapi",
        "numpy",
        "pydantic",
        "python_multipart",
        "starlette",
        "uvicorn",
    },  # no torch, no lightning
    **{room: set() for room in LIGHT},
}


def sources(room: str) -> list[Path]:
    """A room's file, or the files of a room that is a folder."""
    folder = SOURCE / room
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports(room: str) -> tuple[set[str], set[str]]:
    """The rooms and the outside packages that a room imports, wherever in its files."""
    rooms, outside = set(), set()
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources(room)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            outside |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            assert node.module
            package, _, inner = node.module.partition(".")
            if package == "mnist_lit":
                rooms |= {inner.partition(".")[0]} if inner else {alias.name for alias in node.names} - {"__version__"}
            else:
                outside.add(package)
    return rooms - {room}, outside - set(sys.stdlib_module_names)


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor() -> None:
    files = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert set().union(*FLOORS) == files | {path.parent.name for path in SOURCE.glob("*/__init__.py")}


def test_every_import_points_down() -> None:
    for room in set().union(*FLOORS):
        for other in imports(room)[0]:
            assert floor(other) < floor(room), f"{room} (floor {floor(room)}) imports {other} (floor {floor(other)})"


def test_rooms_import_no_more_than_they_may() -> None:
    for room, allowed in ALLOWED.items():
        assert imports(room)[1] <= allowed, room


def test_every_public_name_is_declared_exists_and_is_documented() -> None:
    paths = [path for room in set().union(*FLOORS) - {"__main__"} for path in sources(room)]
    for path in paths:
        place = path.relative_to(SOURCE.parent).with_suffix("")
        module = importlib.import_module(".".join(place.parts).removesuffix(".__init__"))
        assert module.__doc__
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type | FunctionType):
                assert thing.__doc__, f"{place}: {name} has no docstring"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"}
        assert defined <= set(module.__all__), place


def test_each_command_leads_to_a_room_with_a_main() -> None:
    from mnist_lit.cli import COMMANDS

    for room, what in COMMANDS.values():
        assert callable(importlib.import_module(f"mnist_lit.{room}").main)
        assert what
