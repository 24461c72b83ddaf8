"""Every code block and command of the documentation runs, or is listed here with the reason why not.

The parts of a page run in order in one empty folder: commands in-process and shortened, servers as subprocesses that
get one request, Python blocks in one namespace. A `text` block after a Python block is its expected output. A `yaml`
block is written to the file named in backticks on the line before it, and so is a Python block after `NAME.py`: on
that line's end. `<!-- setup: NAME -->` calls a function of this module first.
"""

import contextlib
import importlib
import io
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import yaml
from PIL import Image, ImageDraw

from mnist_lit.cli.main import COMMANDS
from mnist_lit.runs.recipes import find_recipe
from shapes import shape, shapes

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "lightning_logs/README.md"]
PAGES += [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md"))]
PAGES += [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("configs/**/*.yaml"))]
NOT_RUN = {  # regex for "PAGE: TEXT" → why it is not run here
    r"README.md: python3 -m venv": "installs gigabytes; .ci/run does it",
    r"README.md: flowchart": "a drawing, in Mermaid",
    r"CONTRIBUTING.md: src/mnist_lit/\n": "a tree; tests/project/test_readme.py compares it with the package",
    r".*--seeds \d": "tests/experiments/test_seeds.py trains groups",
    r".* test version_\d": "tests/runs/test_locate.py finds runs by name, tests/experiments/test_seeds.py groups",
    r".* compare version_": "tests/cli/test_compare.py makes such runs",
    r".*verify-resume .*--kills": "tests/experiments/test_verify_resume.py kills",
    r".*calibrate --like": "tests/cli/test_calibrate.py calibrates",
    r".*val_check_interval 469": "two steps have no 469th",
    r".*(version_N|…)": "N and … are placeholders",
    r".* report version_": "tests/evaluation/report/test_build.py makes such runs",
    r"docs/deployment.md: ": "needs systemd, nginx or Caddy; the test below checks the unit's command",
    r"docs/distributed.md: ": "tests/end_to_end/test_distributed.py runs it, except on a cluster",
}
SHORTER = {  # regex for a command → options that make it take seconds
    r"mnist-lit fit (?!--help)": ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"],
    r"mnist-lit fit --ckpt_path": ["--trainer.max_epochs", "2"],  # one more epoch
    r"mnist-lit report": ["--images", "50"],
    r"mnist-lit sweep": ["--trials", "1", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"],
    r"mnist-lit test pretrained": ["--trainer.limit_test_batches", "2"],
}
PRINTS = {
    "docs/reading.md": r"7 (0\.9\d*|1\.0) ok\n",
    "docs/your-own.md": r".*\n(circle|square|triangle)\n",
}  # page → regex for the output of its Python blocks, where the page does not show it
COMMAND = re.compile(
    r"mnist-lit \S+ \S|python \S+/|make \w|tensorboard -|torchrun -|\.ci/run"
)  # longer than a bare name

pytestmark = pytest.mark.usefixtures("small_calibration")


class Part(NamedTuple):
    """A runnable part of a page."""

    kind: str  # command, python, yaml, module, inline, shown
    text: str
    more: str | None = None  # expected output of a Python block, file of a yaml block or of a module


def page_text(page: str) -> str:
    return ROOT.joinpath(page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """The code spans of a page's prose, without duplicates."""
    return list(dict.fromkeys(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))))


def parts(page: str) -> list[Part]:
    """A page's code blocks in order, then the commands in its prose."""
    text = page_text(page)
    if page.endswith(".yaml"):
        return [Part("command", text.partition("\n")[0].removeprefix("# "))]
    found: list[Part] = []
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        kind, inside = fence.groups()
        before = text[: fence.start()].rstrip()
        if kind == "sh":
            lines = inside.replace("\\\n", " ").splitlines()
            found += [Part("command", line) for line in lines if shlex.split(line, comments=True)]
        elif kind == "text" and before.endswith("```") and found[-1].kind == "python":
            found[-1] = found[-1]._replace(more=inside)
        elif kind == "yaml":
            named = re.findall(r"`([^`]+\.yaml)`", before.rpartition("\n")[2])
            found.append(Part("yaml", inside, named[-1] if named else None))
        elif kind == "python" and (file := re.search(r"`(\w+\.py)`:$", before)):
            found.append(Part("module", inside, file[1]))
        else:
            found.append(Part(kind or "shown", inside))
    blocks = {" ".join(shlex.split(part.text, comments=True)) for part in found if part.kind == "command"}
    return found + [Part("inline", span) for span in spans(text) if COMMAND.match(span) and span not in blocks]


def reason(page: str, part: Part) -> str:
    """The reason why a part is not run, or the empty string."""
    for pattern, why in NOT_RUN.items():
        if re.match(pattern, f"{page}: {part.text}", re.DOTALL):
            return why
    needs_mnist = re.match(r"mnist-lit (data|.*--config (?!quickstart)|test pretrained)", part.text)
    return "needs MNIST: MNIST_LIT_SHARED is not set" if needs_mnist and not os.environ.get("MNIST_LIT_SHARED") else ""


def a_photo_of_a_seven() -> None:
    image = Image.new("RGB", (300, 400), (225, 215, 200))
    ImageDraw.Draw(image).line([(80, 90), (220, 80), (130, 330)], fill=(40, 40, 90), width=16, joint="curve")
    image.save("photo.jpg")


def my_shapes() -> None:
    shapes()
    shape("triangle", seed=1000).save("photo.jpg")


def my_digits() -> None:
    for digit in range(10):
        Path(f"my-digits/test/{digit}").mkdir(parents=True)
    a_photo_of_a_seven()
    Path("photo.jpg").rename("my-digits/test/7/photo.jpg")


SETUPS = {"a_photo_of_a_seven": a_photo_of_a_seven, "shapes": my_shapes, "my_digits": my_digits}


class Runner:
    """Runs the parts of one page."""

    def __init__(self, page: str, cli: Cli, patch: pytest.MonkeyPatch) -> None:
        self.page, self.cli, self.patch = page, cli, patch
        self.names: dict[str, object] = {"__name__": "page"}
        self.printed = ""
        self.servers: dict[str, subprocess.Popen[bytes]] = {}  # by address

    def run(self, part: Part) -> None:
        if part.kind in ("command", "inline"):
            self.command(part.text)
        elif part.kind == "yaml":
            assert part.more, f"{self.page}: the line before the block must name its file"
            yaml.safe_load(part.text)
            Path(part.more).write_text(part.text, encoding="utf-8")
        elif part.kind == "module":
            assert part.more
            Path(part.more).write_text(part.text, encoding="utf-8")
            self.patch.syspath_prepend(str(Path.cwd()))  # as `python` itself does
        elif part.kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(part.text, self.page, "exec"), self.names)
            self.printed += out.getvalue()
            assert part.more in (None, out.getvalue()), f"{self.page}:\n{part.text}"
        else:
            raise AssertionError(f"{self.page}: cannot run a {part.kind} block; add it to NOT_RUN")

    def command(self, line: str) -> None:
        words = shlex.split(line.replace("127.0.0.1:8000", next(iter(self.servers), "127.0.0.1:8000")), comments=True)
        stays = words[-1] == "&"
        while re.match(r"[A-Z_]+=", words[0]):
            self.patch.setenv(*words.pop(0).split("=", 1))
        program, *args = words[: len(words) - stays]
        line = shlex.join([program, *args])
        if program == "tensorboard" or args[:1] == ["serve"]:
            self.serve(program, args, stays=stays)
        elif program == "mnist-lit":
            args += [option for pattern, shorter in SHORTER.items() if re.match(pattern, line) for option in shorter]
            code, out, err = self.cli(*args)
            assert (code, err if args[0] not in ("predict", "report") else "") == (0, ""), f"{self.page}: {line}\n{err}"
            assert args[0] not in ("test", "validate") or "correct" in out
        elif program == "python":
            usage = help_text(args[0])
            assert usage, line
            assert all(option in usage for option in args if option.startswith("--")), line
        elif program == "make":
            assert re.search(rf"^{args[0]}:", page_text("Makefile"), re.MULTILINE), line
        elif program == ".ci/run":
            assert os.access(ROOT / program, os.X_OK)
        elif program == "curl":
            subprocess.run([program, *args], check=True)
        else:
            raise AssertionError(f"{self.page}: cannot run {line}")

    def serve(self, program: str, args: list[str], *, stays: bool) -> None:
        """Start a server on a free port and request its page once; keep it for the rest of the page if it `stays`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        module = {"tensorboard": "tensorboard.main", "mnist-lit": "mnist_lit"}[program]
        with Path("server.log").open("wb") as log:
            command = [sys.executable, "-m", module, *args, "--port", str(port)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.servers[f"127.0.0.1:{port}"] = process
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                    assert answer.status == 200
                break
            assert process.poll() is None, Path("server.log").read_text(encoding="utf-8")
            assert time.monotonic() < until
            time.sleep(0.1)
        if not stays:
            self.end()

    def end(self) -> None:
        for process in self.servers.values():
            process.terminate()
            process.wait(30)
        self.servers.clear()


def help_text(script: str) -> str:
    """The `--help` output of a script in the repository."""
    out = io.StringIO()
    path, before = ROOT / script, (sys.argv, sys.path)
    sys.argv, sys.path = [str(path), "--help"], [str(path.parent), *sys.path]
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv, sys.path = before
    return out.getvalue()


@pytest.fixture
def runner(request: pytest.FixtureRequest, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    if os.environ.get("MNIST_LIT_SHARED"):
        Path("data").symlink_to(request.getfixturevalue("mnist_dir"))
    runner = Runner(request.param, cli, monkeypatch)
    yield runner
    runner.end()


# Dozens of commands each.
LONG_PAGES = (
    "README.md",
    *(f"docs/{page}.md" for page in ("tutorial", "usage", "resume", "report", "sweeps", "your-own")),
    *(f"docs/{page}.md" for page in ("own-network", "own-module", "lightning", "callbacks", "export", "http")),
    "benchmarks/README.md",
    "configs/best.yaml",
    "configs/reader.yaml",
    "configs/tutorial.yaml",
)


@pytest.mark.parametrize(
    "runner",
    [pytest.param(page, marks=pytest.mark.slow) if page in LONG_PAGES else page for page in PAGES],
    indirect=True,
)
def test_a_page_runs_from_its_first_block_to_its_last(runner: Runner) -> None:
    if runner.page == "README.md" and not os.environ.get("MNIST_LIT_SHARED"):
        pytest.skip("it trains on MNIST: MNIST_LIT_SHARED is not set")
    for name in re.findall(r"<!-- setup: (\w+) -->", page_text(runner.page)):
        SETUPS[name]()
    for part in parts(runner.page):
        if not reason(runner.page, part):
            runner.run(part)
    assert re.fullmatch(PRINTS.get(runner.page, ".*"), runner.printed, re.DOTALL)


def test_every_block_and_command_is_run_or_listed_and_no_reason_is_stale() -> None:
    counts, used, total = Counter[str](), Counter[str](), 0
    for page in PAGES:
        for part in parts(page):
            total += 1
            why = reason(page, part)
            counts[f"{part.kind} not run" if why else part.kind] += 1
            used[why] += 1
            if not why:
                assert part.kind in ("command", "inline", "module", "python", "yaml"), f"{page}: {part.text}"
    assert set(NOT_RUN.values()) <= set(used), "NOT_RUN contains an unused reason"
    assert sum(counts.values()) == total == sum(used.values())
    print(f"{len(PAGES)} pages, {total} blocks and commands: {used.pop('')} run")
    for kind, count in sorted(counts.items()):
        print(f"  {count:>3} {kind}")
    for why, count in used.items():
        print(f"  {count:>3} not run: {why}")


def test_a_block_with_different_output_is_detected(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner("page", cli, monkeypatch)
    runner.run(Part("python", "print(6 * 7)\n", "42\n"))
    with pytest.raises(AssertionError, match="print"):
        runner.run(Part("python", "print(6 * 8)\n", "42\n"))


def test_every_option_and_command_that_a_page_names_exists(cli: Cli) -> None:
    documented = set(re.findall(r"--[a-z][\w.-]*", " ".join(cli(command, "--help")[1] for command in COMMANDS)))
    assert "--data.val_size" in documented
    assert "--data.val" not in documented  # the control
    known = {"--debug", "--requeue", "--signal"}  # accepted by every command; SLURM's
    for page in PAGES:
        for span in spans(page_text(page)):
            if span.startswith("mnist-lit "):
                assert span.split()[1] in COMMANDS or span.split()[1].startswith("-"), f"{page}: {span}"
            if span.startswith(("mnist-lit ", "--")):
                for option in re.findall(r"--[a-z][\w.-]*", span):
                    assert option in known or option in documented, f"{page}: {span}"


def test_the_page_of_config_options_has_those_of_the_command_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    page = importlib.import_module("config_options").page()
    rows = {cells[0]: cells[1:] for cells in re.findall(r"^\| `(\S+)` \| (.+) \| (.*) \| (.+) \|$", page, re.MULTILINE)}
    helped = re.findall(r"^  --(\S+)", cli("fit", "--help")[1], re.MULTILINE)
    elsewhere = {"config", "print_config", "ckpt_path"}  # of the command, not of a config
    assert {*helped} - elsewhere <= {*rows}
    assert {name for name in rows if not name.startswith("trainer.")} <= {*helped}
    assert rows["model.lr"] == ("float", "`0.05`", "Peak learning rate.")
    assert [rows[f"data.{name}"][0] for name in ("mirrors", "dataset")] == ["list of str, str or null", "choice"]
    assert rows["trainer.log_every_n_steps"][:2] == ("int or null", "`10`")


def test_the_systemd_unit_starts_a_server(cli: Cli) -> None:
    command = re.search(r"^ExecStart=\S+/mnist-lit (serve .*)$", page_text("docs/deployment.md"), re.MULTILINE)
    assert command
    code, _, err = cli(*command[1].replace("%i", "99999").split())
    assert (code, err) == (2, "mnist-lit: --port: expected 0 … 65535, got 99999\n")


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("generate")


def test_the_tutorials_tables_and_charts_are_up_to_date(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    charts = [name for name in generate.FIGURES if name.endswith(".svg")]
    assert generate.main([*generate.TABLES, *charts, "--check"]) == 0, capsys.readouterr().out
    page = page_text("docs/tutorial.md")
    assert re.findall("<!-- generated: (.*) -->", page) == list(generate.TABLES)
    Path("page.md").write_text(page.replace("593,200", "593,201"), encoding="utf-8")
    monkeypatch.setattr(generate, "PAGE", Path("page.md"))
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 1
    assert generate.main([]) == 0
    assert Path("page.md").read_text(encoding="utf-8").count("593,200") >= 1


@pytest.mark.parametrize(
    "names",
    [
        ["augmented.png", "resampling.png"],
        pytest.param(["mistakes.png", "confusion.png", "features.png"], marks=pytest.mark.slow),
    ],
    ids=["data", "model"],
)
def test_the_tutorials_pictures_are_up_to_date(
    names: list[str], generate: ModuleType, mnist_dir: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert generate.main([*names, "--data_dir", mnist_dir, "--check"]) == 0
    monkeypatch.setattr(generate, "PICTURES", tmp_path)
    for name, other in zip(names, reversed(names), strict=True):  # the control
        tmp_path.joinpath(name).write_bytes(ROOT.joinpath("docs/pictures", other).read_bytes())
    assert generate.main([*names, "--data_dir", mnist_dir, "--check"]) == 1


def test_pictures_of_mnist_are_left_unchanged_without_mnist(
    generate: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["augmented.png", "--data_dir", "nowhere"]) == 0
    assert "MNIST not found" in capsys.readouterr().out


def test_every_shown_picture_exists_and_every_generated_one_is_shown(generate: ModuleType) -> None:
    shown = {name for page in PAGES for name in re.findall(r"!\[.+?\]\((?:docs/)?pictures/(.+?)\)", page_text(page))}
    assert shown == {path.name for path in ROOT.glob("docs/pictures/*")}
    assert set(generate.FIGURES) <= shown


def test_the_figures_agree_with_the_benchmark_and_the_recipe(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    assert importlib.import_module("epochs").PUBLISHED == generate.PUBLISHED
    recipe = yaml.safe_load(find_recipe("tutorial").read_text(encoding="utf-8"))["data"]
    assert {name: recipe[name] for name in generate.RECIPE} == generate.RECIPE


NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
ELSEWHERE = {  # number in the tutorial's prose that no block or generated table contains → its source
    70_000.0: "60,000 and 10,000",
    3.0: "part of a license's name",
}


def numbers(text: str) -> set[float]:
    """The numbers with two or more digits; single digits are mostly counts and references."""
    found = NUMBER.findall(text.replace("×", " "))
    return {float(number.replace(",", "")) for number in found if len(number.rstrip(",")) > 1}


def test_every_number_of_the_tutorials_text_is_computed_printed_or_sourced() -> None:
    page = page_text("docs/tutorial.md")
    made = "".join(re.findall(r"<!-- generated: .*?<!-- /generated -->", page, re.DOTALL))
    blocks = "".join(re.findall(r"^```(?:python|text)\n.*?^```$", page, re.DOTALL | re.MULTILINE))
    text = re.sub(r"<!-- generated: .*?<!-- /generated -->", "", prose(page), flags=re.DOTALL)
    stated = numbers(re.sub(r"\(http.*?\)", "", text))
    sources = numbers(made) | numbers(blocks) | set(ELSEWHERE)
    assert len(stated) > 30
    assert stated <= sources, stated - sources
    assert not numbers("It has 99.41 % after 21 epochs.") & sources  # the control
