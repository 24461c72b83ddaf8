"""The digits that a picture may show, and the choice between them by their shapes and a network's scores."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnist_lit.imaging.mnist_format import DigitImage
from mnist_lit.imaging.words import in_headings, in_words, small_print

Box = tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels; right and bottom are exclusive


class FoundDigit(NamedTuple):
    """A digit and its place in the picture."""

    box: Box
    image: DigitImage
    line: int = 1  # of the page, from the top, counted from 1
    column: int = 1  # place in that line, from the left, counted from 1
    more_beside: int = 0  # digits that seem to lie beside it, beyond `Hypotheses.beside`


class Choice(NamedTuple):
    """Pieces `first` … `stop - 1` of a line of text, read as one digit or left out."""

    first: int
    stop: int
    cost: float  # how unlikely the shape is, in nats
    digit: int | None  # index in `Hypotheses.found`; None: the piece is left out


class Chosen(NamedTuple):
    """A digit that was chosen."""

    digit: int  # index in `Hypotheses.found`
    line: int
    column: int
    in_word: bool = False  # most of what is written beside it is not a digit


class Hypotheses(NamedTuple):
    """Digits that a picture may show. Where they exclude each other, shapes and a network's scores decide."""

    lines: list[list[Choice]]  # of text
    found: list[FoundDigit]  # what the choices look like
    beside: int = 0  # digits that seem to lie beside the requested one
    whole_page: Sequence[tuple[float, int]] = ()  # all of it as one digit: cost, index in `found`
    in_mnist_format: bool = False  # the picture itself, which was not converted

    def choose(
        self, costs: Sequence[float] | None = None, rejected: Sequence[bool] = (), above: int = 0
    ) -> list[Chosen]:
        """Choose the digits. costs: how unlikely a network finds each, in nats. rejected: whether it rejects each.
        above: the number of lines above these."""
        chosen: list[Chosen] = []
        for line in self.lines:
            totals = [cost + (costs[digit] if costs and digit is not None else 0) for *_, cost, digit in line]
            path = [line[index] for index in best_path([choice[:2] for choice in line], totals)]
            letters = self._in_words(line, path, rejected) if rejected else set()
            digits = [choice.digit for choice in path if choice.digit is not None]
            number = chosen[-1].line + 1 if chosen else above + 1
            chosen += [Chosen(digit, number, column, digit in letters) for column, digit in enumerate(digits, 1)]
        if rejected and len(self.lines) > 1:
            chosen = self._without_text(chosen, rejected, above)
        whole = min(((cost + (costs[digit] if costs else 0), digit) for cost, digit in self.whole_page), default=None)
        others = [one.digit for one in chosen]
        if whole and (not others or (costs and self._has_parts(*whole, others, [costs[digit] for digit in others]))):
            return [Chosen(whole[1], above + 1, 1)]
        return chosen

    def _in_words(self, line: Sequence[Choice], path: Sequence[Choice], rejected: Sequence[bool]) -> set[int]:
        """The digits on a path through a line of text that belong to words; pieces that are left out count, too."""
        pieces: dict[int, int] = {}  # the first hypothesis about each
        for first, stop, _, digit in line:
            if stop == first + 1 and digit is not None:
                pieces.setdefault(first, digit)
        indices = [pieces[first] if digit is None else digit for first, _, _, digit in path]
        found = in_words(np.array([self.found[index].box for index in indices]), np.array(rejected, bool)[indices])
        return set(itertools.compress(indices, found))

    def _without_text(self, chosen: Sequence[Chosen], rejected: Sequence[bool], above: int) -> list[Chosen]:
        """The chosen digits without small print, and with each heading marked as a word."""
        lines, letters = np.array([(one.line, rejected[one.digit] or one.in_word) for one in chosen]).reshape(-1, 2).T
        boxes = np.array([self.found[one.digit].box for one in chosen]).reshape(-1, 4)
        keeps = ~small_print(lines, boxes, letters > 0)
        words = in_headings(lines[keeps], letters[keeps] > 0)
        kept = zip(itertools.compress(chosen, keeps), words.tolist(), strict=True)
        of_lines = itertools.groupby(kept, key=lambda pair: pair[0].line)
        return [
            one._replace(line=number, column=column, in_word=one.in_word or is_word)
            for number, (_, line) in enumerate(of_lines, above + 1)
            for column, (one, is_word) in enumerate(line, 1)
        ]

    def _has_parts(self, cost: float, digit: int, others: Sequence[int], costs: Sequence[float]) -> bool:
        """Whether at least half of the others lie within a digit that is likelier than their median."""
        left, top, right, bottom = self.found[digit].box
        boxes = np.array([self.found[other].box for other in others])
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        within = (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
        return bool(cost < np.median(costs) and within.mean() >= 0.5)

    def digits(self) -> list[FoundDigit]:
        """The digits by shape alone, without a network."""
        return [self.found[one.digit]._replace(line=one.line, column=one.column) for one in self.choose()]


def best_path(spans: Sequence[tuple[int, int]], costs: Sequence[float]) -> list[int]:
    """The indices of the spans (first, stop), stop exclusive, that cover every piece once at the least total cost
    (Viterbi 1967).

    >>> best_path([(0, 2), (0, 1), (1, 2)], [1, 3, 0.5])
    [0]
    """
    arriving: dict[int, list[int]] = {}  # the spans that end at each piece
    for index, (_, stop) in enumerate(spans):
        arriving.setdefault(stop, []).append(index)
    best, last = {0: 0.0}, dict[int, int]()  # the least cost up to each piece, and the last span of that path
    for stop in sorted(arriving):
        totals = [(best[spans[index][0]] + costs[index], index) for index in arriving[stop] if spans[index][0] in best]
        if totals:
            best[stop], last[stop] = min(totals)
    path: list[int] = []
    end = max(best)
    while end:
        path.append(last[end])
        end = spans[last[end]][0]
    return path[::-1]
