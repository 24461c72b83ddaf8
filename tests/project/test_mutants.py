"""`make mutants` can plant every bug that it lists, and notices one that is not there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mutants
from mutation.changes import ROOT, function_lines, sample, systematic
from mutation.planted import EQUIVALENT, MODULES

SCRIPT = Path(__file__).parents[1] / "mutants.py"
PARSED = [mutant for mutant in mutants.planted_bugs() if mutant.path.endswith(".py")]


def test_every_listed_bug_changes_code_that_exists() -> None:
    for mutant in PARSED:
        before = ROOT.joinpath(mutant.path).read_bytes()
        assert ast.dump(ast.parse(mutant.source())) != ast.dump(ast.parse(before)), mutant
        assert all(ROOT.joinpath(name).exists() for name in mutant.tests), mutant


def test_every_systematic_bug_is_valid_and_changes_the_module() -> None:
    module = "data/keyed_random.py"
    before = ast.dump(ast.parse(ROOT.joinpath("src/mnist_lit", module).read_bytes()))
    found = list(systematic(module, ()))
    assert len(found) > 50
    assert len({ast.dump(ast.parse(mutant.source())) for mutant in found} - {before}) > 0.95 * len(found)
    chosen = sample(module, (), 5, seed=0)
    assert chosen == sample(module, (), 5, seed=0) != sample(module, (), 5, seed=1)
    assert {*chosen} < {*found}


def test_a_bug_belongs_to_the_function_whose_body_it_changes() -> None:
    lines = {mutant.new: function_lines(mutant) for mutant in PARSED if mutant.path.endswith("keyed_random.py")}
    source = ROOT.joinpath("src/mnist_lit/data/keyed_random.py").read_text(encoding="utf-8").splitlines()
    body = lines["_mix(start + word)"]
    assert body is not None
    assert source[body.start - 1].startswith("def _bits(")
    assert source[body.stop - 2].startswith("    return _mix(counters")
    assert lines["stream: int = SPLIT"] is None  # a default is evaluated by the import


def test_each_equivalent_bug_can_still_be_planted() -> None:
    for module, *change in EQUIVALENT:
        assert (*change,) in {mutant.lines()[1:] for mutant in systematic(module, ())}, (module, change)
        assert module in MODULES


@pytest.mark.slow
def test_the_command_fails_if_bugs_survive() -> None:
    command = [sys.executable, str(SCRIPT), "--jobs", "1", "--sample", "0", "--only", "runs/recipes"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "runs/recipes.py                        5       5  100.0%" in run.stdout
