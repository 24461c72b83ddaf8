"""Tell words from numbers. Many letters look like digits, but seldom most letters of a word, let alone all of them.

Here, a letter is any piece that the network rejects. NumPy only."""

import itertools

import numpy as np
from numpy.typing import NDArray

MAX_LETTER_GAP, MAX_WORD_GAP = 0.35, 0.7  # between letters of a word, and between neighboring words, in heights
MIN_LETTER_HEIGHT = 0.4  # as a fraction of its word's median
MIN_LETTERS = 3  # least number in a word
MAX_SMALL_PRINT = 0.6  # greatest height of small print, as a fraction of the digits' height
MAX_LETTERS = 0.15  # fraction of letters above which small print is words
MIN_HEADING, HEADING_LETTERS = 2, 0.3  # least number, and least fraction, of letters in a line that is a heading
MAX_UNREAD = 0.05  # greatest fraction of letters in the other lines of a page that has a heading


def in_words(boxes: NDArray[np.int64], letters: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pieces of a line of text belong to words: groups of pieces close to each other, of which at least three,
    and more than half, are letters. In the words next to such a word, one letter is enough.

    boxes: int64 (N, 4) with left, top, right, bottom of the pieces from the left. letters: bool (N,).
    """
    heights = boxes[:, 3] - boxes[:, 1]
    gaps = (boxes[1:, 0] - boxes[:-1, 2]) / np.maximum(heights[1:], heights[:-1])
    starts = [0, *(np.flatnonzero(gaps > MAX_LETTER_GAP) + 1).tolist(), len(boxes)]
    found = np.zeros(len(boxes), bool)
    start = before = 0  # of neighboring words with letters, and the number of letters in the word before
    for first, stop in itertools.pairwise(starts):
        tall = heights[first:stop] >= MIN_LETTER_HEIGHT * np.sort(heights[first:stop])[(stop - first) // 2]
        count = int(np.count_nonzero(letters[first:stop] & tall))
        if not (count and before and gaps[first - 1] <= MAX_WORD_GAP):
            start = first
        is_word = count >= MIN_LETTERS and 2 * count > np.count_nonzero(tall)
        found[start:stop] = is_word or found[start]
        before = count
    return found


def small_print(lines: NDArray[np.int64], heights: NDArray[np.int64], letters: NDArray[np.bool_]) -> list[int]:
    """The lines of a page that are far shorter than the digits of the page, unless nearly all of a line is digits.

    lines, heights, letters: (N,), each piece's line, its height in pixels, and whether it is a letter or in a word.
    """
    if letters.all():
        return []
    digits = heights[~letters]
    usual = np.quantile(digits, 0.5, weights=digits.astype(np.float64) ** 2, method="inverted_cdf")
    found = []
    for line in np.unique(lines).tolist():
        here = lines == line
        is_small = np.median(heights[here]) < MAX_SMALL_PRINT * usual
        if is_small and np.count_nonzero(letters[here]) > max(1, MAX_LETTERS * np.count_nonzero(here)):
            found.append(line)
    return found


def headings(lines: NDArray[np.int64], letters: NDArray[np.bool_]) -> list[int]:
    """The lines of a page with several letters, if hardly any other line has some. See `small_print`."""
    found = []
    for line in np.unique(lines).tolist():
        here, others = letters[lines == line], letters[lines != line]
        is_word = np.count_nonzero(here) >= MIN_HEADING and here.mean() >= HEADING_LETTERS
        if is_word and len(others) and others.mean() <= MAX_UNREAD:
            found.append(line)
    return found
