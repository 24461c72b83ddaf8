"""Write docs/tutorial.ipynb from docs/tutorial.md: the same tutorial as a notebook for Jupyter and Colab.

    python docs/notebook.py

Python blocks become cells. The outputs shown below them are left out, and so is text between `<!-- page only -->` and
`<!-- /page only -->`. Colab has no files beside a notebook and does not show attachments, so pictures are embedded as
data URLs and links to other files become text.
"""

import base64
import re
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parent
PAGE, NOTEBOOK = FOLDER / "tutorial.md", FOLDER / "tutorial.ipynb"
SETUP = """\
Run the cells in order. They need no GPU and take a few minutes together. Run commands that start with `mnist-lit`
in a terminal, or in a cell after a `!`.

```python
# Installs the project if it is missing. `..` is the repository if you opened the notebook in its folder `docs`.
# Elsewhere, on Colab for example, upload the repository as a .zip file and replace `..` with the file's name.
import importlib.util

if importlib.util.find_spec("mnist_lit") is None:
    %pip install --quiet ..
```
"""
CELLS = ("mnist-lit data",)  # commands that the notebook runs
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def convert(page: str, pictures: Path = FOLDER) -> str:
    """The notebook, as JSON, for a page in Markdown whose picture links are relative to a folder."""
    text = re.sub(r"<!-- page only -->.*?<!-- /page only -->\n", lambda _: SETUP, page, flags=re.DOTALL)
    text = re.sub(r"<details>.*?</details>", lambda answer: _exercise(answer[0]), text, flags=re.DOTALL)
    text = re.sub(r"^```text\n.*?^```\n", "", text, flags=re.DOTALL | re.MULTILINE)
    for command in CELLS:
        text = text.replace(f"```sh\n{command}\n```", f"```python\n!{command}\n```")
    text = text.replace("```sh\n", "```shell\n")  # jupytext would make cells of the others
    text = re.sub(r"<!--.*?-->\n", "", text)
    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)
    text = re.sub(r"!\[([^\]]+)\]\((\S+)\)", lambda link: _embedded(link[1], pictures / link[2]), text)
    notebook = jupytext.reads(re.sub(r"\n{3,}", "\n\n", text), "md")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext's are random
    written: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return written + "\n"


def _exercise(answer: str) -> str:
    """A folded answer, which stays text, and an empty cell to try it in."""
    return (
        answer.replace("```python\n", "```Python\n").replace("```text\n", "It prints:\n\n```\n")
        + "\n\n```python\n# try it here\n```"
    )


def _embedded(text: str, picture: Path) -> str:
    """A picture by reference, with its file after it, so that the text stays readable in an open cell."""
    data = base64.b64encode(picture.read_bytes()).decode()
    return f"![{text}][{picture.name}]\n\n[{picture.name}]: data:{TYPES[picture.suffix]};base64,{data}"


if __name__ == "__main__":
    NOTEBOOK.write_text(convert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
