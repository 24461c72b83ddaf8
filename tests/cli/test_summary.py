"""The network's table; tests/evaluation/test_layers.py checks each layer's numbers."""

from collections.abc import Callable

Cli = Callable[..., tuple[int, str, str]]


def test_the_table_has_a_line_for_each_layer_and_the_totals(cli: Cli) -> None:
    code, out, err = cli("summary")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds", "receptive", "field"]
    assert lines[1].split() == ["input", "1", "×", "28", "×", "28"]
    assert lines[2].startswith("conv1 ")
    assert lines[2].endswith("3 × 3")
    assert lines[-2].endswith(" all")
    assert lines[-1].split()[:2] == ["total", "593,200"]
