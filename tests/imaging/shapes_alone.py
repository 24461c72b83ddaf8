"""Read a page without a network."""

from mnist_lit.imaging.find_digits import page_hypotheses
from mnist_lit.imaging.hypotheses import FoundDigit
from mnist_lit.imaging.reduced_picture import Picture


def find_digits(picture: Picture) -> list[FoundDigit]:
    """Every digit of a page by shape alone, line by line from the top, each line from the left."""
    found: list[FoundDigit] = []
    for hypotheses in page_hypotheses(picture):
        above = found[-1].line if found else 0
        found += [digit._replace(line=above + digit.line) for digit in hypotheses.digits()]
    return found
