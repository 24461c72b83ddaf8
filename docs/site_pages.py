"""The pages of the site that are made when it is built, and links to files outside `docs`. Called by MkDocs."""

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import config_options
import mnist_lit
from mnist_lit.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"README.md": "index.md", "lightning_logs/README.md": "runs.md", "benchmarks/README.md": "benchmarks.md"}
WORDS = r"!\[[^\]]*\]\([^)]*\)|[^\]!][^\]]*"  # of a link: a picture or text
LINK = re.compile(rf"(?<!!)\[({WORDS})\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")  # to a file
ROWS = re.compile(r"^\| (?:Key|Option) \| Type \|.*\n(?:\|.*\n)+", re.MULTILINE)  # a reference table


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of other folders, the README first, and what the code says: commands, config options, Python."""
    pages = {name: _page(file) for file, name in ELSEWHERE.items()}
    pages |= {"commands.md": _commands(), "options.md": config_options.page(), "python.md": _python()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files that are not pages into text, as the site may be anywhere. Mark reference tables for
    `site.css`, and read folded text as Markdown."""
    text = ROWS.sub(r'<div class="rows" markdown>\n\n\g<0>\n</div>\n', _links_between_pages(markdown, "docs"))
    return text.replace("<details>", '<details markdown="1">')


def _page(file: str) -> str:
    """A Markdown file of the repository as a page, which is in the folder of all others."""
    text = re.sub(r"```mermaid\n.*?```\n\n", "", ROOT.joinpath(file).read_text(encoding="utf-8"), flags=re.DOTALL)
    text = _links_between_pages(text, posixpath.dirname(file))  # no Mermaid, which Material would load from elsewhere
    return text.replace("](docs/", "](")  # pictures


def _links_between_pages(text: str, folder: str) -> str:
    """The text of a file in this folder, with links to other pages by their names on the site, and no other links."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found.groups()
        file = posixpath.normpath(posixpath.join(folder, target))
        page = ELSEWHERE.get(file, file.removeprefix("docs/") if re.fullmatch(r"docs/[^/]+\.md", file) else "")
        return f"[{words}]({page}{anchor or ''})" if page else words

    return LINK.sub(link, text)


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
