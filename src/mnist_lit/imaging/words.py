"""Tell words from numbers. Many letters look like digits, but seldom most letters of a word, let alone all of them.

Here, a letter is any piece that the network rejects. NumPy only."""

import itertools

import numpy as np
from numpy.typing import NDArray

MAX_LETTER_GAP, MAX_WORD_GAP = 0.35, 0.7  # between letters of a word, and between neighboring words, in heights
MIN_LETTER_HEIGHT = 0.4  # as a fraction of its word's median
MIN_LETTERS = 3  # least number in a word
MAX_SMALL_PRINT = 0.6  # greatest height of small print, as a fraction of the digits' height
MAX_ASCENDER = 1.6  # greatest height of a letter in small print, as a multiple of the usual one
MAX_LETTERS = 0.15  # fraction of letters above which a line of small print is words
LABEL_LETTERS = 0.4  # least fraction of letters in small print on a page with labels beside numbers
MIN_HEADING, HEADING_LETTERS = 2, 0.3  # least number, and least fraction, of letters in a line that is a heading
MIN_TEXT, TEXT_LETTERS = 30, 0.85  # least number, and least fraction, of letters on a page of text
MAX_UNREAD = 0.05  # greatest fraction of letters in the other lines of a page that has a heading


def in_words(boxes: NDArray[np.int64], letters: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pieces of a line of text belong to words: groups of pieces close to each other, of which at least three,
    and more than half, are letters. In the words next to such a word, one letter is enough.

    boxes: int64 (N, 4) with left, top, right, bottom of the pieces from the left. letters: bool (N,).
    """
    heights, gaps = boxes[:, 3] - boxes[:, 1], _gaps(boxes)
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


def small_print(lines: NDArray[np.int64], boxes: NDArray[np.int64], letters: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pieces of a page are small print: words far lower than its digits, in lines of their own or as labels
    beside numbers. Hardly any small digits are rejected, but many letters are.

    lines, boxes, letters: (N,), (N, 4) and (N,), each piece's line, its box, and whether it is a letter or in a word.
    """
    found = np.zeros(len(lines), bool)
    if letters.all():
        return found
    heights = boxes[:, 3] - boxes[:, 1]
    of_lines = [np.flatnonzero(lines == line) for line in np.unique(lines).tolist()]
    # Many letters are read as digits, so lines with hardly any letters tell how high digits are.
    numbers = np.concatenate([line for line in of_lines if letters[line].mean() <= MAX_LETTERS] or of_lines)
    digits = heights[numbers[~letters[numbers]]]
    usual = np.quantile(digits, 0.5, weights=digits.astype(np.float64) ** 2, method="inverted_cdf")
    small = heights < MAX_SMALL_PRINT * usual
    # Digits are seldom rejected, so small digits beside large ones, as in prices, are not taken for labels.
    has_labels = np.count_nonzero(letters & small) >= MIN_LETTERS and letters[small].mean() >= LABEL_LETTERS
    for line in of_lines:
        here = line[small[line]]
        is_small = len(here) > len(line) / 2 and np.count_nonzero(letters[here]) > max(1, MAX_LETTERS * len(here))
        if is_small or (has_labels and 0 < len(here) < len(line)):
            tallest = max(MAX_SMALL_PRINT * usual, MAX_ASCENDER * float(np.median(heights[here])))
            for word in np.split(line, np.flatnonzero(_gaps(boxes[line]) > MAX_LETTER_GAP) + 1):
                if max(small[word].mean(), letters[word].mean()) > 0.5:
                    found[word] = heights[word] < tallest
    return found


def _gaps(boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The gaps between the pieces of a line, (N - 1,), in heights of the taller neighbor."""
    heights = boxes[:, 3] - boxes[:, 1]
    return np.asarray((boxes[1:, 0] - boxes[:-1, 2]) / np.maximum(heights[1:], heights[:-1]))


def in_headings(lines: NDArray[np.int64], letters: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pieces of a page belong to headings, lines with several letters, if hardly any other line has some; or all
    of them, if nearly all are letters. See `small_print`."""
    if np.count_nonzero(letters) >= MIN_TEXT and letters.mean() >= TEXT_LETTERS:
        return np.ones(len(lines), bool)
    found = np.zeros(len(lines), bool)
    for line in np.unique(lines).tolist():
        here = lines == line
        is_word = np.count_nonzero(letters[here]) >= MIN_HEADING and letters[here].mean() >= HEADING_LETTERS
        if is_word and not here.all() and letters[~here].mean() <= MAX_UNREAD:
            found |= here
    return found
