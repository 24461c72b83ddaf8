"""Console output: sanitized text and aligned tables, the same in a pipe and on a terminal."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TextIO

# The categories Cc, Cs, Zl and Zp, characters that reverse the text after them, and noncharacters. Others may look odd,
# but occur in names: a no-break space, Japanese spaces, joined emoji.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str, keep: str = "") -> str:
    r"""Text from a file, without characters that would control a terminal, except those in `keep`.

    >>> printable("three\x1b[2J")
    'three?[2J'
    """
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else "?", text)


def say(*texts: object, sep: str = " ", end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """`print`, except that names and values from outside cannot control the terminal. All output goes through
    it, except the help texts that argparse prints."""
    cleaned = (printable(str(text), keep="\n\t") for text in texts)
    try:
        print(*cleaned, sep=sep, end=end, file=file, flush=flush)
    except OSError as error:
        if file or isinstance(error, BrokenPipeError):
            raise
        raise OSError(f"cannot write to standard output: {error.strerror}") from error


def duration(seconds: float) -> str:
    """A duration in the unit that fits it.

    >>> duration(28), duration(600), duration(9000)
    ('28 s', '10 min', '2.5 h')
    """
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def format_epochs(epochs: float) -> str:
    """A number of epochs as it is written everywhere.

    >>> format_epochs(16), format_epochs(0.5), format_epochs(7 / 3), format_epochs(12345), format_epochs(0.006977)
    ('16', '0.5', '2.333', '12345', '0.006977')
    """
    return f"{epochs:.3f}".rstrip("0").rstrip(".") if epochs >= 1 else f"{epochs:.4g}"


def percent(fraction: float, images: int | None = None) -> str:
    """A fraction of `images` in percent, with the fewest decimals that tell neighboring counts apart; two if `images`
    is unknown.

    >>> percent(176 / 180, 180), percent(9941 / 10_000), percent(7 / 8, 8)
    ('97.8 %', '99.41 %', '88 %')
    """
    return f"{100 * fraction:.{2 if images is None else percent_digits(images)}f} %"


def percent_digits(images: int) -> int:
    """The fewest decimals of a percentage that tell neighboring counts of `images` apart."""
    return max(0, math.ceil(math.log10(max(images, 1) / 100)))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows under a header, columns padded to their widest cell; `right` lists columns to align right."""
    from rich.console import Console  # takes 0.1 s to import
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(header))
    for index, title in enumerate(header):
        table.add_column(title, justify="right" if index in right else "left", no_wrap=True, header_style="")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # a cell without a title adds a column
    console = Console(width=10_000, no_color=True)  # never wraps; Rich pads each line, which a pipe does not need
    with console.capture() as capture:
        console.print(table)
    say(*(line.rstrip() for line in capture.get().splitlines()), sep="\n")


def print_fields(fields: Mapping[str, str]) -> None:
    """Print a blank line, then names in one column and values in the other.

    >>> print_fields({"images": "360", "test/acc": "99.4 %"})
    <BLANKLINE>
      images        360
      test/acc      99.4 %
    """
    say("", *(f"  {name:<14}{printable(value)}" for name, value in fields.items()), sep="\n")
