"""Mutation testing: plant one small bug at a time in the modules that carry the guarantees; the tests must notice it.

For each bug the tests that call its function run, the quickest first, until one fails. The bugs are those listed in
mutation/planted.py and a sample of systematic ones. This prints the fraction that was noticed and each bug that was
not, and fails below 95 %. `python tests/mutants.py`, or `make mutants`, takes long: every bug runs its tests.

By hand, because mutmut and cosmic-ray start Python for each bug, which imports torch for seconds. Here the tests run in
forks of a process that has imported everything except this package, each in a copy of the project.
"""

import argparse
import compileall
import importlib
import multiprocessing
import os
import pickle
import py_compile
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from mutation.changes import ROOT, SOURCE, Mutant, function_lines, sample
from mutation.planted import EQUIVALENT, MODULES, PLANTED
from mutation.plugins import Recorder, Recording, Selection

LEAST = 0.95
PRELOADED = (
    *(
        "lightning.pytorch",
        "torchmetrics.classification",
        "torchvision",
        "torch.utils.tensorboard",
        "cv2",
        "jsonargparse",
    ),
    *("scipy.stats", "scipy.optimize", "sklearn.metrics", "sklearn.datasets", "onnx", "onnxruntime", "rich.table"),
    *("fastapi", "httpx", "uvicorn", "prometheus_client", "jinja2", "tensorboard.backend.event_processing"),
)
# Tests that compare times may fail on a busy machine, which would count as noticing the bug.
TIMED = ("takes_no_memory", "delay_nobody", "does_not_wait_for_its_head", "reads_nothing_of_its_response")
NOTHING = Mutant("pyproject.toml", ROOT.joinpath("pyproject.toml").read_bytes(), 0, 0, "", ())
OPTIONS = (
    *("-x", "-q", "-n0", "-p", "xdist", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"),
    *("-k", " and ".join(f"not {name}" for name in TIMED)),
)


def run_tests(tree: Path, files: tuple[str, ...], plugin: Recorder | Selection) -> int | None:
    """Run test files in a copy of the project, in a fork of this process; returns its exit code."""

    def child() -> None:
        os.setsid()
        log = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(tree)
        places = [f"{tree}/src", f"{tree}/tests", str(tree)]  # the last for processes that import a test's module
        os.environ |= {"PYTHONPATH": ":".join(places), "OMP_NUM_THREADS": "1"}
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # finding plugins takes longer than most tests
        sys.path[:0] = places
        code = pytest.main([*OPTIONS, f"--basetemp={tree}/tmp", *files], plugins=[plugin])
        if isinstance(plugin, Recorder):
            tree.joinpath("recording").write_bytes(pickle.dumps(plugin.found))
        sys.exit(code)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    with suppress(OSError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # processes that it started
    return process.exitcode


def copy_project(folder: Path) -> Path:
    """A copy of the project for this process; its byte code is valid by its source's hash, not by the time."""
    tree = folder / str(os.getpid())
    if not tree.exists():
        ignored = shutil.ignore_patterns("__pycache__", ".*", "lightning_logs")
        shutil.copytree(ROOT, tree, ignore=ignored)
        compileall.compile_dir(tree / "src", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return tree


def record(folder: Path, files: tuple[str, ...]) -> Recording:
    """Run the tests without a bug; they must pass."""
    tree = copy_project(folder)
    if run_tests(tree, files, Recorder(tree)):
        raise SystemExit(tree.joinpath("log").read_text(encoding="utf-8")[-3000:])
    for done in tree.glob("tmp/*.done"):
        with suppress(OSError):  # another process has made the same
            done.with_suffix("").rename(folder / "prepared" / done.stem)
    found: Recording = pickle.loads(tree.joinpath("recording").read_bytes())
    return found


def notice(folder: Path, mutant: Mutant, tests: dict[str, float], prepared: list[Path]) -> str:
    """How these tests fail with this bug; empty if all pass."""
    tree = copy_project(folder)
    tree.joinpath(mutant.path).write_bytes(mutant.source())
    try:
        files = tuple(dict.fromkeys(test.partition("::")[0] for test in tests))
        if not tests or not (code := run_tests(tree, files, Selection(tests, prepared))):
            return ""
        log = tree.joinpath("log").read_text(encoding="utf-8", errors="replace")
        return next(iter(re.findall(r"^(?:FAILED|ERROR) .*", log, re.M)), f"exit code {code}")
    finally:
        tree.joinpath(mutant.path).write_bytes(mutant.before)


def planted_bugs() -> list[Mutant]:
    """The listed bugs. Raises ValueError if the code of one has changed."""
    found = []
    for (module, tests), bugs in PLANTED.items():
        source = ROOT.joinpath(SOURCE + module).read_bytes()
        for old, new in bugs:
            if source.count(old.encode()) != 1:
                raise ValueError(f"mutation/planted.py: expected {old!r} once in {module}")
            start = source.index(old.encode())
            end = start + len(old.encode())
            found.append(Mutant(SOURCE + module, source, start, end, new, files_of(module, tests)))
    return found


def files_of(module: str, tests: str) -> tuple[str, ...]:
    """The files that have to notice a module's bugs; its own doctests come first."""
    doctests = [SOURCE + module] if module.endswith(".py") else []
    return (*doctests, *(f"tests/{name}" for name in (tests or MODULES[module]).split()))


def record_all(pool: ProcessPoolExecutor, folder: Path, files: tuple[str, ...], jobs: int) -> Recording:
    """Run all test files without a bug, and the quickest test of each as for a bug; these must pass."""
    recording = Recording()
    for part in pool.map(record, [folder] * jobs, [files[n::jobs] for n in range(jobs)]):
        recording.add(part)
    slowest_first = reversed(recording.tests(files, NOTHING.path, None))
    quickest = {test.partition("::")[0]: test for test in slowest_first}
    seconds = dict.fromkeys(quickest.values(), 30.0)
    if failure := pool.submit(notice, folder, NOTHING, seconds, [*folder.glob("prepared/*")]).result():
        raise SystemExit(f"without a bug: {failure}")
    return recording


def try_all(folder: Path, mutants: list[Mutant], jobs: int, *, verbose: bool) -> list[bool]:
    """Which mutants the tests notice; prints the others."""
    begun, noticed = time.monotonic(), []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        files = tuple(dict.fromkeys(name for mutant in mutants for name in mutant.tests))
        recording = record_all(pool, folder, files, jobs)
        print(f"{len(recording.fixtures)} tests pass without a bug, {time.monotonic() - begun:.0f} s", flush=True)
        tests, prepared = [], []
        for mutant in mutants:
            lines = function_lines(mutant)
            tests.append(recording.tests(mutant.tests, mutant.path, lines))
            made = folder.glob("prepared/*")
            prepared.append([one for one in made if not recording.reaches(one.name, mutant.path, lines)])
        failures = pool.map(notice, [folder] * len(mutants), mutants, tests, prepared)
        for mutant, failure in zip(mutants, failures, strict=True):
            noticed.append(bool(failure))
            if not failure or verbose:
                number, before, after = mutant.lines()
                print(f"{failure or 'survived'}: {mutant.path}:{number}\n  - {before}\n  + {after}", flush=True)
    return noticed


def print_table(mutants: list[Mutant], noticed: list[bool]) -> None:
    """How many bugs of each module the tests notice."""
    table: dict[str, list[bool]] = {}
    for mutant, was_noticed in zip(mutants, noticed, strict=True):
        table.setdefault(mutant.path.removeprefix(SOURCE), []).append(was_noticed)
    print(f"\n{'module':<32}{'planted':>8}{'killed':>8}{'fraction':>8}")
    for module, column in [*sorted(table.items()), ("all", noticed)]:
        print(f"{module:<32}{len(column):>8}{sum(column):>8}{sum(column) / len(column):>8.1%}")


def main() -> int:
    """Plant the bugs and print the results; 1 if too few were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    parser.add_argument("--sample", type=int, default=12, help="systematic bugs of each module (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--only", nargs="*", default=[""], help="modules whose path contains one of these")
    parser.add_argument("--verbose", action="store_true", help="say which test noticed each bug")
    args = parser.parse_args()
    mutants = planted_bugs()
    for module, tests in MODULES.items():
        mutants += sample(module, files_of(module, tests), args.sample, args.seed)
    mutants = [one for one in mutants if any(part in one.path for part in args.only)]
    equivalent = [one for one in mutants if (one.path.removeprefix(SOURCE), *one.lines()[1:]) in EQUIVALENT]
    mutants = [one for one in mutants if one not in equivalent]
    begun = time.monotonic()
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.joinpath("prepared").mkdir()
        noticed = try_all(folder, mutants, args.jobs, verbose=args.verbose)
    print_table(mutants, noticed)
    print(f"{len(equivalent)} more change nothing, see mutation/planted.py")
    print(f"{(time.monotonic() - begun) / 60:.0f} minutes with {args.jobs} processes")
    return 0 if sum(noticed) >= LEAST * len(noticed) else 1


if __name__ == "__main__":
    sys.exit(main())
