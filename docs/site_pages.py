"""The pages of the site that are made when it is built, and links to files outside `docs`. Called by MkDocs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import mnist_lit
from mnist_lit.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
LINK = r"(?<!!)\[([^\]]+)\]"  # of a page, not of a picture


def on_files(files: Files, config: Any) -> Files:
    """Add the start page, which is the README, the commands' help and the Python reference."""
    for name, text in (("index.md", _start()), ("commands.md", _commands()), ("python.md", _python())):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files that are not pages into text: the site may be anywhere, without the repository beside it."""
    return re.sub(LINK + r"\(\.\./[^)]*\)", r"\1", markdown)


def _start() -> str:
    text = ROOT.joinpath("README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    text = re.sub(r"```mermaid\n.*?```\n\n", "", text, flags=re.DOTALL)  # Material would load Mermaid from elsewhere
    return re.sub(LINK + r"\((?!https?:|#)(?:[^)]*/[^)]*|[A-Z]+(?:\.md)?)\)", r"\1", text)


def _commands() -> str:
    parts = ["# Commands\n\nThe output of each command's `--help`.\n"]
    parts += [f"## {name}\n\n```text\n{_help(name)}```\n" for name in COMMANDS]
    return "\n".join(parts)


def _help(command: str) -> str:
    args = [sys.executable, "-m", "mnist_lit", command, "--help"]
    text = subprocess.run(args, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")


def _python() -> str:
    public = (name for name in mnist_lit.__all__ if not name.startswith("_"))
    return "# Python\n\n" + "\n".join(f"::: mnist_lit.{name}\n" for name in public)
