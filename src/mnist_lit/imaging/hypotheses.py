"""The digits that a picture may show, and the choice between them by their shapes and a network's scores."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnist_lit.imaging.mnist_format import DigitImage

MAX_LETTER_GAP, MAX_WORD_GAP = 0.35, 0.7  # between letters of a word, and between neighboring words, in heights
MIN_LETTER_HEIGHT = 0.4  # as a fraction of its word's median
MIN_LETTERS = 3  # least number of rejected pieces in a word
MAX_SMALL_PRINT = 0.6  # greatest height of small print, as a fraction of the digits' height
MAX_LETTERS = 0.15  # fraction of letters above which small print is words
MIN_HEADING, HEADING_LETTERS = 2, 0.3  # least number, and least fraction, of letters in a line that is a heading
MAX_UNREAD = 0.05  # fraction of letters in all other lines of a page that may have one

Box = tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels; right and bottom are exclusive


class FoundDigit(NamedTuple):
    """A digit and its place in the picture."""

    box: Box
    image: DigitImage
    line: int = 1  # of the page, from the top, counted from 1
    column: int = 1  # place in that line, from the left, counted from 1


class Choice(NamedTuple):
    """Pieces `first` … `stop - 1` of a line of text as one digit, or as nothing."""

    first: int
    stop: int
    cost: float  # how unlikely the shape is, in nats
    digit: int | None  # its place among the digits found; None: the piece is left out


class Chosen(NamedTuple):
    """A digit that was chosen."""

    digit: int  # its place among the digits found
    line: int
    column: int
    in_word: bool = False  # most of what is written beside it is not a digit


class Hypotheses(NamedTuple):
    """Digits that a picture may show. Where they exclude each other, shapes and a network's scores decide."""

    lines: list[list[Choice]]  # of text
    found: list[FoundDigit]  # what the choices look like
    beside: int = 0  # digits that seem to lie beside the requested one
    alone: Sequence[tuple[float, int]] = ()  # one digit instead of all the lines: cost, place in `found`
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
            in_words = self._in_words(line, path, rejected) if rejected else set()
            digits = [choice.digit for choice in path if choice.digit is not None]
            number = chosen[-1].line + 1 if chosen else above + 1
            chosen += [Chosen(digit, number, column, digit in in_words) for column, digit in enumerate(digits, 1)]
        if rejected and len(self.lines) > 1:
            chosen = _with_headings(self._without_small_print(chosen, rejected, above), rejected)
        alone = min(((cost + (costs[digit] if costs else 0), digit) for cost, digit in self.alone), default=None)
        others = [one.digit for one in chosen]
        if alone and (not others or (costs and self._has_parts(*alone, others, [costs[digit] for digit in others]))):
            return [Chosen(alone[1], above + 1, 1)]
        return chosen

    def _without_small_print(self, chosen: Sequence[Chosen], rejected: Sequence[bool], above: int) -> list[Chosen]:
        """Drop lines that are far lower than the others, unless nearly all of a line is digits."""
        heights = np.array([box[3] - box[1] for box in (self.found[one.digit].box for one in chosen)], np.float64)
        doubtful = np.array([rejected[one.digit] or one.in_word for one in chosen], bool)
        if doubtful.all():
            return list(chosen)
        high = np.quantile(heights[~doubtful], 0.5, weights=heights[~doubtful] ** 2, method="inverted_cdf")
        lines = np.array([one.line for one in chosen])
        words = set()
        for line in set(lines.tolist()):
            here = lines == line
            if np.median(heights[here]) < MAX_SMALL_PRINT * high and doubtful[here].sum() > max(
                1, MAX_LETTERS * here.sum()
            ):
                words.add(line)
        kept = [one for one in chosen if one.line not in words]
        numbers = {line: number for number, line in enumerate(dict.fromkeys(one.line for one in kept), above + 1)}
        return [one._replace(line=numbers[one.line]) for one in kept]

    # Many letters look like digits, but seldom most letters of a word, let alone all of them.
    def _in_words(self, line: Sequence[Choice], path: Sequence[Choice], rejected: Sequence[bool]) -> set[int]:
        """The digits on a path through a line of text that belong to words. A word is a group of pieces close to each
        other of which at least three, and most, are rejected; in the words next to it, one rejected piece is enough."""
        pieces: dict[int, int] = {}  # the first hypothesis about each
        for first, stop, _, digit in line:
            if stop == first + 1 and digit is not None:
                pieces.setdefault(first, digit)
        words: list[tuple[float, list[tuple[int, int]]]] = []  # the gap before it; place and height of each piece
        last = (-math.inf, 0)  # the right end and the height of the piece before
        for first, _, _, digit in path:
            place = pieces[first] if digit is None else digit
            left, top, right, bottom = self.found[place].box
            gap = (left - last[0]) / max(last[1], bottom - top)
            if gap > MAX_LETTER_GAP:
                words.append((gap, []))
            words[-1][1].append((place, bottom - top))
            last = right, bottom - top
        phrases: list[set[int]] = []  # the pieces of words beside each other that have letters
        sure: list[bool] = []  # whether most of one of these words is letters
        letters = 0
        for gap, word in words:
            least, before = MIN_LETTER_HEIGHT * sorted(height for _, height in word)[len(word) // 2], letters
            tall = [rejected[place] for place, height in word if height >= least]
            letters = sum(tall)
            if gap > MAX_WORD_GAP or not letters or not before:
                phrases.append(set())
                sure.append(False)
            phrases[-1] |= {place for place, _ in word}
            sure[-1] |= letters >= MIN_LETTERS and 2 * letters > len(tall)
        return set().union(*itertools.compress(phrases, sure))

    def _has_parts(self, cost: float, digit: int, others: Sequence[int], costs: Sequence[float]) -> bool:
        """Whether at least half of the others lie within a digit, and it is likelier than their median."""
        left, top, right, bottom = self.found[digit].box
        boxes = np.array([self.found[other].box for other in others])
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        within = (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
        return bool(cost < np.median(costs) and within.mean() >= 0.5)

    def digits(self, above: int = 0) -> list[FoundDigit]:
        """The digits by shape alone, without a network."""
        return [self.found[one.digit]._replace(line=one.line, column=one.column) for one in self.choose(above=above)]


def _with_headings(chosen: Sequence[Chosen], rejected: Sequence[bool]) -> list[Chosen]:
    """The same, with each line as a word of which several pieces are rejected, if hardly any other line has such
    pieces."""
    doubtful = np.array([rejected[one.digit] or one.in_word for one in chosen], bool)
    lines = np.array([one.line for one in chosen])
    headings = set()
    for line in set(lines.tolist()):
        letters, others = doubtful[lines == line], doubtful[lines != line]
        is_word = letters.sum() >= MIN_HEADING and letters.mean() >= HEADING_LETTERS
        if is_word and len(others) and others.mean() <= MAX_UNREAD:
            headings.add(line)
    return [one._replace(in_word=one.in_word or one.line in headings) for one in chosen]


def best_path(spans: Sequence[tuple[int, int]], costs: Sequence[float]) -> list[int]:
    """The indices of the spans (first, stop), stop exclusive, that cover every piece once at the least total cost
    (Viterbi 1967).

    >>> best_path([(0, 2), (0, 1), (1, 2)], [1, 3, 0.5])
    [0]
    """
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for end in range(1, max(stop for _, stop in spans) + 1):
        arriving = [index for index, (first, stop) in enumerate(spans) if stop == end and first in best]
        paths = [(best[spans[i][0]][0] + costs[i], [*best[spans[i][0]][1], i]) for i in arriving]
        if paths:
            best[end] = min(paths, key=lambda path: path[0])
    return best[max(best)][1]
