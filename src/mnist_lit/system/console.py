"""Tables for people, printed with Rich: columns that align on any terminal and in a pipe. Knows no domain terms."""

import sys
from collections.abc import Mapping, Sequence

__all__ = ["print_fields", "print_table"]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows under a header, columns padded to their widest cell; `right` lists columns to align right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(header))
    for index in range(max(map(len, [header, *rows]))):
        title = header[index] if header else ""
        table.add_column(title, justify="right" if index in right else "left", no_wrap=True, header_style="")
    for row in rows:
        table.add_row(*map(Text, row))
    # Rich pads every line and wraps at the terminal's width; a pipe wants neither.
    console = Console(width=10_000, no_color=True)
    with console.capture() as capture:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def print_fields(fields: Mapping[str, str]) -> None:
    """Print a blank line, then names in one column and values in the other.

    >>> print_fields({"images": "360", "test/acc": "99.39%"})
    <BLANKLINE>
      images        360
      test/acc      99.39%
    """
    print("", *(f"  {name:<14}{value}" for name, value in fields.items()), sep="\n")
