"""Small bugs: the systematic ones of a module, from its syntax tree, and the text of a mutated file."""

import ast
import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT, SOURCE = Path(__file__).parents[2], "src/mnist_lit/"
SWAPPED: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd},
    **{ast.LShift: ast.RShift, ast.RShift: ast.LShift},
}
OPPOSITE = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNSWAPPABLE = {"isinstance", "getattr", "reduce", "suppress", "min", "max"}  # swapped, these always fail or never
CHECKS = {"strict", "validate_args", "flush"}  # keywords that change nothing for valid arguments


class Mutant(NamedTuple):
    """A change of one file: the bytes from `start` to `end` become `new`."""

    path: str  # below the project's folder
    before: bytes  # the whole file, which somebody may edit in the meantime
    start: int
    end: int
    new: str
    tests: tuple[str, ...]  # files that have to notice it

    def source(self) -> bytes:
        """The whole changed file."""
        return self.before[: self.start] + self.new.encode() + self.before[self.end :]

    def lines(self) -> tuple[int, str, str]:
        """The number of the first changed line, what it was and what it is."""
        before = self.before
        first, last = before.rfind(b"\n", 0, self.start) + 1, before.find(b"\n", self.end)
        after = before[first : self.start] + self.new.encode() + before[self.end : last]
        one, other = (" ".join(text.decode().split()) for text in (before[first:last], after))
        return before.count(b"\n", 0, self.start) + 1, one, other


def systematic(module: str, tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Every small bug of a module."""
    source = ROOT.joinpath(SOURCE + module).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in _nodes(ast.parse(source)):
        start, end = (starts[line - 1] + column for line, column in (node_start(node), node_end(node)))
        for variant in _variants(node):
            text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(variant)))
            new = f"({text})" if isinstance(variant, ast.expr) else text
            yield Mutant(SOURCE + module, source, start, end, new, tests)


def sample(module: str, tests: tuple[str, ...], count: int, seed: int) -> list[Mutant]:
    """Some of these, in the order of a hash, so that a change of the module replaces only a few of them."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(" ".join((str(seed), module, *mutant.lines()[1:])).encode()).digest()

    return sorted(systematic(module, tests), key=rank)[:count]


def function_lines(mutant: Mutant) -> range | None:
    """The lines of the function or method whose body a mutant changes; None if it changes what an import runs."""
    if not mutant.path.endswith(".py"):
        return None
    line, tree = mutant.lines()[0], ast.parse(mutant.before)
    scopes = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for node in (
        node for scope in scopes for node in scope if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ):
        if node.body[0].lineno <= line <= (node.end_lineno or 0):
            return range(min(part.lineno for part in (node, *node.decorator_list)), (node.end_lineno or 0) + 1)
    return None


def node_start(node: Any) -> tuple[int, int]:
    """Line, counted from 1, and byte in it."""
    return node.lineno, node.col_offset


def node_end(node: Any) -> tuple[int, int]:
    """The same of the node's end."""
    return node.end_lineno, node.end_col_offset


def _nodes(parent: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose change may matter: no annotations, messages, or assertions that only a type checker needs."""
    for name, value in ast.iter_fields(parent):
        for child in value if isinstance(value, list) else [value]:
            ignored = isinstance(child, ast.JoinedStr | ast.Assert) or name in ("annotation", "returns")
            ignored |= isinstance(child, ast.keyword) and child.arg in CHECKS
            if isinstance(child, ast.AST) and not ignored:
                if hasattr(child, "lineno"):
                    yield child
                yield from _nodes(child)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """The node with one bug each."""

    def changed(**fields: Any) -> ast.AST:
        return type(node)(**{**dict(ast.iter_fields(node)), **fields})

    match node:
        case ast.Compare(ops=ops):
            for n, op in enumerate(ops):
                yield changed(ops=[*ops[:n], SWAPPED[type(op)](), *ops[n + 1 :]])
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign():
            if type(node.op) in SWAPPED and not any(map(_is_text, ast.iter_child_nodes(node))):
                yield changed(op=SWAPPED[type(node.op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.IfExp(test=ast.Name() | ast.Attribute() | ast.Call()):
            yield changed(body=node.orelse, orelse=node.body)
        case ast.Constant(value=bool() as flag):
            yield ast.Constant(not flag)
        case ast.Constant(value=int() as number):
            yield from (ast.Constant(number + 1), ast.Constant(number - 1))
        case ast.Constant(value=float() as fraction):
            yield ast.Constant(fraction * 1.1 or 1.0)
        case ast.Name(id=name) if name in OPPOSITE:
            yield changed(id=OPPOSITE[name])
        case ast.Attribute(attr=name) if name in OPPOSITE:
            yield changed(attr=OPPOSITE[name])
        case ast.Call(args=[first, second, *others]) if not any(isinstance(arg, ast.Starred) for arg in node.args):
            if not (isinstance(node.func, ast.Name) and node.func.id in UNSWAPPABLE):
                yield changed(args=[second, first, *others])
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Continue() | ast.Break() | ast.AugAssign():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def _is_text(node: ast.AST) -> bool:
    """Whether a node is a string, for which another operator fails wherever it is called."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
