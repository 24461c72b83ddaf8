"""docs/tutorial.ipynb is the tutorial, and runs from its first cell to its last."""

import importlib
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[2]
PAGE = ROOT.joinpath("docs/tutorial.md").read_text(encoding="utf-8")
WITHOUT_ANSWERS, ANSWERS = re.subn(r"<details>.*?</details>", "", PAGE, flags=re.DOTALL)


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("notebook")


def cells(text: str, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == kind]


def test_the_notebook_is_up_to_date(converter: ModuleType) -> None:
    assert converter.NOTEBOOK.read_text(encoding="utf-8") == converter.convert(PAGE), "run `make notebook`"


def test_the_notebook_has_every_block_and_every_picture_of_the_page(converter: ModuleType) -> None:
    text = converter.NOTEBOOK.read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(text, 4))
    blocks = re.findall(r"^```python\n(.*?)\n```$", WITHOUT_ANSWERS, re.DOTALL | re.MULTILINE)
    code, prose = cells(text, "code"), "\n".join(cells(text, "markdown"))
    assert [cell for cell in code if cell in blocks] == blocks
    assert prose.count("</details>") == code.count("# try it here") == ANSWERS
    assert prose.count("]: data:image/") == PAGE.count("](pictures/")
    assert not re.search(r"\]\((?!https?:)", prose)  # such links would be dead on Colab
    assert "```python" not in prose
    assert "<!--" not in prose
    assert "%pip install" in code[0]


def test_a_page_becomes_cells_text_and_embedded_pictures(converter: ModuleType, tmp_path: Path) -> None:
    tmp_path.joinpath("dot.png").write_bytes(b"dot")
    page = (
        "# Page\n\n<!-- page only -->\n\nno\n\n<!-- /page only -->\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "See [this](other.md), [that](https://example.org).\n\n![A dot](dot.png)\n\n```sh\nmnist-lit test\n```\n\n"
        "<details><summary>Answer</summary>\n\n```python\nprint(2)\n```\n\n```text\n2\n```\n\n</details>\n"
    )
    text = converter.convert(page, tmp_path)
    assert text == converter.convert(page, tmp_path)
    assert cells(text, "code")[1:] == ["print(1)", "# try it here"]
    assert cells(text, "markdown")[1] == (
        "See this, [that](https://example.org).\n\n![A dot][dot.png]\n\n[dot.png]: data:image/png;base64,ZG90\n\n"
        "```shell\nmnist-lit test\n```\n\n"
        "<details><summary>Answer</summary>\n\n```Python\nprint(2)\n```\n\nIt prints:\n\n```\n2\n```\n\n</details>"
    )


def run(notebook: Any) -> list[Any]:
    """The outputs of all cells, run in the current folder. Raises CellExecutionError if a cell fails."""
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(Path.cwd())}})
    client.execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Jupyter's own
def test_the_notebook_runs_from_its_first_cell_to_its_last(
    converter: ModuleType, request: pytest.FixtureRequest
) -> None:
    notebook = nbformat.read(converter.NOTEBOOK, 4)
    if os.environ.get("MNIST_LIT_SHARED"):
        Path("data").symlink_to(request.getfixturevalue("mnist_dir"))
    else:
        notebook.cells = [cell for cell in notebook.cells if cell.source != "!mnist-lit data"]  # downloads
    outputs = run(notebook)
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    position = 0
    for block in re.findall(r"^```text\n(.*?)^```$", WITHOUT_ANSWERS, re.DOTALL | re.MULTILINE):
        position = printed.index(block, position) + len(block)
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    notebook.cells = [nbformat.v4.new_code_cell("assert 1 == 2")]  # the control
    with pytest.raises(nbclient.exceptions.CellExecutionError):
        run(notebook)
