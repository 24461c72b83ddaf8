"""pytest plugins: record which functions each test calls; run the tests that call one, the quickest first."""

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Calls = set[tuple[str, int]]  # (file below the project's folder, first line of the function)


@dataclass
class Recording:
    """What the tests do without a bug. A context is a test, a fixture by its name, or "" for what imports do."""

    calls: dict[str, Calls] = field(default_factory=lambda: defaultdict(set))  # context → functions of the package
    spawning: set[str] = field(default_factory=set)  # contexts that start processes, whose calls nobody sees
    seconds: dict[str, float] = field(default_factory=dict)  # of each context, without the fixtures set up in it
    fixtures: dict[str, list[str]] = field(default_factory=dict)  # of each test

    def add(self, other: "Recording") -> None:
        """Add what another process recorded."""
        for context, calls in other.calls.items():
            self.calls[context] |= calls
        self.spawning |= other.spawning
        self.seconds |= other.seconds
        self.fixtures |= other.fixtures

    def reaches(self, context: str, path: str, lines: range | None) -> bool:
        """Whether a test or fixture may run a changed function."""
        imported = any(file == path and line in lines for file, line in self.calls[""]) if lines else True
        found = lines is None or any(file == path and line in lines for file, line in self.calls[context])
        return imported or found or context in self.spawning

    def tests(self, files: tuple[str, ...], path: str, lines: range | None) -> dict[str, float]:
        """The tests in these files that may run a changed function, the quickest first, and their seconds."""
        chosen = {}
        for test, fixtures in self.fixtures.items():
            if test.startswith(files) and any(self.reaches(one, path, lines) for one in (test, *fixtures)):
                chosen[test] = sum(self.seconds.get(one, 0.0) for one in (test, *fixtures))
        return dict(sorted(chosen.items(), key=lambda item: item[1]))


class Recorder:
    """Fills a `Recording`."""

    def __init__(self, tree: Path) -> None:
        self.found, self.package, self._skipped = Recording(), f"{tree}/src/", len(f"{tree}/")
        self._context, self._nested = "", 0.0

    def _profile(self, frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self.package):
            function = frame.f_code.co_filename[self._skipped :], frame.f_code.co_firstlineno
            self.found.calls[self._context].add(function)

    def _audit(self, event: str, _: Any) -> None:
        if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
            self.found.spawning.add(self._context)

    @contextlib.contextmanager
    def _within(self, context: str) -> Iterator[None]:
        outer, nested, begun = self._context, self._nested, time.perf_counter()
        self._context, self._nested = context, 0.0
        yield
        seconds = time.perf_counter() - begun
        self.found.seconds[context] = max(self.found.seconds.get(context, 0.0), seconds - self._nested)
        self._context, self._nested = outer, nested + seconds

    def pytest_sessionstart(self) -> None:
        """Watch this thread and all that are started."""
        sys.addaudithook(self._audit)
        sys.setprofile(self._profile)
        threading.setprofile(self._profile)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, object, object]:
        """Watch a test."""
        self.found.fixtures[item.nodeid] = list(getattr(item, "fixturenames", ()))
        with self._within(item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """Watch a fixture."""
        with self._within(fixturedef.argname):
            return (yield)


class Selection:
    """Run these tests in this order. One that takes much longer than usual ends the process, as if it had failed.

    prepared: folders of the fixture `make_once` that need not be made again.
    """

    def __init__(self, seconds: Mapping[str, float], prepared: list[Path]) -> None:
        self.seconds = seconds

        def prepare(tmp_path_factory: pytest.TempPathFactory) -> None:
            for folder in prepared:
                shutil.copytree(folder, tmp_path_factory.getbasetemp() / folder.name)
                tmp_path_factory.getbasetemp().joinpath(f"{folder.name}.done").touch()

        self.prepare = pytest.fixture(scope="session", autouse=True)(prepare)
        self.order = {test: number for number, test in enumerate(seconds)}

    def pytest_sessionstart(self) -> None:
        """Set the alarm for collecting the tests."""
        signal.alarm(120)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the selected tests."""
        items[:] = sorted((one for one in items if one.nodeid in self.order), key=lambda one: self.order[one.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Set the alarm."""
        signal.alarm(int(30 + 5 * self.seconds[nodeid]))
