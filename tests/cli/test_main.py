"""The command table: help, version, dispatch and errors, without importing torch where that is possible."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit import __version__
from mnist_lit.cli.main import COMMANDS, main
from mnist_lit.errors import StoppedBySignal
from mnist_lit.runs.locate import PRETRAINED_DIR

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["fitt"], ["fit", "--config", "gone.yaml"], ["test"], ["test", "--ckpt_path", "gone"]],
    ids=" ".join,
)
def test_help_and_early_errors_do_not_import_torch(args: list[str]) -> None:
    program = f"import sys; from mnist_lit.cli.main import main; main({args}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_help_lists_every_command_and_the_recipes(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for name in (*COMMANDS, "quickstart", "tutorial"):
        assert name in out


def test_help_about_a_command_is_that_of_the_command(cli: Cli) -> None:
    assert cli("help", "runs") == cli("runs", "--help")


def test_version_is_the_package_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"mnist-lit {__version__}\n", "")


@pytest.mark.parametrize(
    ("config", "imported"),
    [
        ("trainer: {callbacks: [{class_path: local_code.Net}]}", False),
        pytest.param("trainer: {logger: {class_path: local_code.Net}}", False, marks=pytest.mark.slow),
        # asks for code of one's own
        pytest.param("model: {network: {class_path: local_code.Net}}", True, marks=pytest.mark.slow),
    ],
)
def test_a_config_imports_from_the_working_directory_only_a_network(config: str, imported: bool) -> None:
    Path("local_code.py").write_text("open('imported', 'w')\nclass Net: pass\n")
    Path("c.yaml").write_text(config)
    command = [sys.executable, "-m", "mnist_lit", "fit", "--config", "c.yaml", "--data.dataset", "digits"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)
    assert Path("imported").exists() == imported


def test_python_dash_m_runs_the_same_program() -> None:
    run = subprocess.run([sys.executable, "-m", "mnist_lit", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"mnist-lit {__version__}\n"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mnist-lit` as pip installs it. Modules in the working directory, with names that others have, leave a file."""
    path = tmp_path / "bin/mnist-lit"
    path.parent.mkdir()
    path.write_text(
        "import sys\nfrom mnist_lit.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    tmp_path.joinpath("here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    for name in ("keyword", "selectors", "signal", "yaml"):
        Path(f"{name}.py").write_text("import sys; open('imported', 'a').write(f'{__name__} by {sys.orig_argv}')")
    return path


def test_python_dash_m_imports_nothing_from_the_working_directory(program: Path) -> None:
    Path("keyword.py").unlink()  # Python itself imports that one before it starts a module
    run = subprocess.run([sys.executable, "-m", "mnist_lit", "--version"], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == (f"mnist-lit {__version__}\n", "")
    assert not Path("imported").exists()


def test_processes_for_many_pictures_import_nothing_from_the_working_directory(program: Path) -> None:
    for number in range(256):
        Path(f"{number}.png").touch()
    command = [sys.executable, str(program), "predict", "--model", str(PRETRAINED_DIR / "model.onnx"), "."]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, "Traceback" in run.stderr) == (1, False), run.stderr  # none can be read
    assert not Path("imported").exists()


def test_the_servers_processes_import_nothing_from_the_working_directory(program: Path) -> None:
    command = [sys.executable, str(program), "serve", "--model", str(PRETRAINED_DIR / "model.onnx"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "http://" in process.stdout.readline()
        process.terminate()
    assert not Path("imported").exists()


def test_other_programs_that_call_main_keep_their_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    cli("--version")
    assert "PYTHONSAFEPATH" not in os.environ


@pytest.mark.parametrize(
    ("command", "code", "line"), [("fit", 0, ""), ("predict", 143, "mnist-lit: stopped by SIGTERM\n")]
)
def test_a_signal_is_printed_once_for_a_fit_and_by_every_process_that_works_alone(
    command: str, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> int:
        raise StoppedBySignal(signal.SIGTERM)

    monkeypatch.setattr("mnist_lit.cli.main._run", stopped)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert main([command]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("name", ["LOCAL_RANK", "SLURM_PROCID"])
def test_a_launchers_variable_that_is_no_number_is_one_line(
    error_line: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert error_line("fit", "--config", "quickstart").startswith(f"mnist-lit: {name}: expected a whole number")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([""], "unknown command nothing"),
        (["fitt"], "unknown command fitt; did you mean fit?"),
        (["train"], "unknown command train; did you mean fit?"),
        (["version"], "unknown command version; did you mean --version?"),
        (["help", "fitt"], "unknown command fitt; did you mean fit?"),
        (["trian"], "unknown command trian; did you mean fit? (`mnist-lit --help` lists all)"),
        (["read", "a.png"], "unknown command read; did you mean predict?"),
        (["fit", "quickstart"], "--config quickstart"),
        (["test", "version_0", "version_1"], "expected one model or group, got version_0 and version_1"),
        (["test", "version_0", "--trainer.devices", "1", "version_1"], "got version_0 and version_1"),
        (["test", "--trainer.devices", "1", "gone"], "no model at gone"),
        (
            ["fit", "--data.val_size", "1", "quickstart"],
            "quickstart is not an option; name a recipe with --config quick",
        ),
        (["test", "-ckpt_path", "version_0"], "unknown option -ckpt_path; did you mean --ckpt_path?"),
        (["fit", "-config=fast"], "unknown option -config; did you mean --config?"),
        (["predict", "-model", "pretrained", "a.png"], "unknown option -model; did you mean --model?"),
        (["test", "version_0", "--ckpt_path", "version_1"], "one model or group, got version_0 and version_1"),
        (["validate", "version_0", "--model=version_1"], "one model or group, got version_0 and version_1"),
        (["fit", "--config", "quickstrat"], "quickstrat; did you mean quickstart?"),
        (["fit", "--config"], "--config: expected a recipe's name or a file, got none"),
        (["test", "--ckpt_path="], "--ckpt_path: expected a run or a checkpoint, got none"),
        (["test"], "lightning_logs; run `mnist-lit fit` first"),
        (["validate", "--ckpt_path", "gone.ckpt"], "no model at gone.ckpt"),
        (["test", "--model", "gone.ckpt"], "no model at gone.ckpt"),
        (["predict", "a.png", "--modle", "x"], "unknown option --modle; did you mean --model?"),
        (["predict"], "missing argument: PICTURE|FOLDER|-; --help lists"),
        (["serve", "--port", "abc"], "--port: expected a whole number, got abc"),
        (["export", "--model", "pretrained", "--output", "m.txt"], "got m.txt"),
        (["compare", "version_0"], "missing argument: RUN; --help lists what the command takes"),
        (["runs"], "lightning_logs; nothing was trained here yet: `mnist-lit fit --config quickstart` creates one"),
        (["predict", "a.png", "--threshold", "x", "--many"], "--threshold: expected a number, got x"),
        (["runs", "--deep"], "unknown option --deep"),
        (["runs", "nowhere"], "nowhere"),
        (["summary", "--deep"], "unknown option --deep"),
        (["data", "--dataset", "mnits"], "mnits; did you mean mnist?"),
        (["data", "--deep"], "unknown option --deep"),
        (["data", "mnist"], "unexpected argument mnist; --help lists what the command takes"),
        (["data", "--mirrors", "a,b"], "; b: unknown url type: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_gives_one_line_and_exit_code_2(cli: Cli, args: list[str], line: str) -> None:
    code, out, err = cli(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mnist-lit: ")
    assert line in err
    assert not list(Path("lightning_logs").glob("*"))


def test_fit_cannot_resume_a_group(cli: Cli) -> None:
    Path("lightning_logs/version_0/seed_0").mkdir(parents=True)
    code, _, err = cli("fit", "--ckpt_path", "version_0")
    expected = "lightning_logs/version_0 is a group of runs; name one of them, such as lightning_logs/version_0/seed_0"
    assert (code, err) == (2, f"mnist-lit: {expected}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])  # "": only the end of the program writes
def test_output_to_a_full_disk_fails_with_one_line(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    program = [sys.executable, "-m", "mnist_lit", "--help"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, "mnist-lit: cannot write to standard output: No space left on device\n")


def test_a_closed_pipe_is_not_reported() -> None:
    program = f"{shlex.quote(sys.executable)} -m mnist_lit --help | true"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    assert subprocess.run(program, shell=True, env=env, capture_output=True, check=True).stderr == b""


def test_debug_shows_the_traceback(cli: Cli) -> None:
    with pytest.raises(ValueError, match="unknown command"):
        cli("fitt", "--debug")


def test_an_error_is_one_line_whatever_it_quotes(cli: Cli) -> None:
    code, out, err = cli("runs", "no\nsuch\x1b[2Jfolder")
    expected = "mnist-lit: no folder no such?[2Jfolder; `mnist-lit runs` lists those in lightning_logs\n"
    assert (code, out, err) == (2, "", expected)


def test_only_the_help_of_commands_with_lightnings_options_imports_torch() -> None:
    commands = [name for name, (module, _) in COMMANDS.items() if module != "lightning"]
    program = f"""
import contextlib, io, sys
from mnist_lit.cli.main import main
for command in {commands}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([command, "--help"])
    assert "torch" not in sys.modules, command
"""
    subprocess.run([sys.executable, "-c", program], check=True)
