"""Words and small print are told from numbers."""

import numpy as np

from mnist_lit.imaging.words import in_headings, in_words, small_print

Box = tuple[int, int, int, int]


def words(letters: list[bool], boxes: list[Box]) -> list[bool]:
    """Whether each piece of a line of text belongs to a word."""
    return list(map(bool, in_words(np.array(boxes), np.array(letters))))


def test_a_letter_that_looks_like_a_digit_belongs_to_its_word() -> None:
    near = [(30 * place, 0, 30 * place + 22, 30) for place in range(5)]
    word = [True, False, True, False, True]
    assert all(words(word, near))
    assert not any(words([False, False, True, False, True], near))  # a number with two odd digits
    assert not any(words([*word, False], [*near, (150, 0, 172, 30)]))  # a half are not most
    apart = [(60 * place, 0, 60 * place + 20, 30) for place in range(5)]
    assert not any(words(word, apart))
    dust = [(left, 24 if odd else 0, left + 22, 30) for (left, *_), odd in zip(near, word, strict=True)]
    assert not any(words([*word, False, False], [*dust, (150, 0, 172, 30), (180, 0, 202, 30)]))


def test_a_number_one_space_after_a_word_does_not_belong_to_it() -> None:
    letters = [(30 * place, 0, 30 * place + 22, 30) for place in range(6)]
    digits = [(184 + 30 * place, 0, 206 + 30 * place, 30) for place in range(2)]
    assert words([True] * 6 + [False] * 2, [*letters, *digits]) == [True] * 6 + [False] * 2


def test_one_letter_is_enough_in_a_word_beside_another() -> None:
    long = [(60 + 30 * place, 0, 82 + 30 * place, 30) for place in range(4)]  # to 172
    short = [(0, 0, 22, 30), (26, 0, 48, 30)]  # a gap of 0.4 heights before it
    assert all(words([False, True, True, True, True, False], [*short, *long]))
    assert words([False, False] + [True] * 4, [*short, *long]) == [False] * 2 + [True] * 4  # a number
    after = [(186, 0, 208, 30), (212, 0, 234, 30), (248, 0, 270, 30)]  # two words of letters beside each other
    assert all(words([*[True] * 5, False, True], [*long, *after]))
    far = [(200, 0, 222, 30), (226, 0, 248, 30)]
    assert words([*[True] * 5, False], [*long, *far]) == [True] * 4 + [False] * 2


def line(number: int, *heights: int, gap: int = 5) -> list[tuple[int, Box]]:
    """The pieces of a line of text, each with the line's number: as wide as high, on the line's base."""
    pieces, left = [], 0
    for height in heights:
        pieces.append((number, (left, 100 * number - height, left + height, 100 * number)))
        left += height + gap
    return pieces


def printed(pieces: list[tuple[int, Box]], *letters: int) -> list[int]:
    """The indices of the pieces that are small print. letters: the indices of those that are letters."""
    lines, boxes = (np.array(part) for part in zip(*pieces, strict=True))
    return np.flatnonzero(small_print(lines, boxes, np.isin(np.arange(len(lines)), letters))).tolist()


def test_small_print_with_a_few_letters_is_text() -> None:
    page = [*line(1, *[40] * 4), *line(2, *[20] * 8)]
    assert printed(page) == []  # small digits
    assert printed(page, 5) == []  # of which one is unreadable
    assert printed(page, 5, 8) == [*range(4, 12)]
    assert printed([*line(1, *[40] * 4), *line(2, *[30] * 8)], 5, 8) == []  # nearly as high as the digits
    assert printed(page, *range(12)) == []  # no digits to compare with


def test_a_number_beside_a_label_in_small_print_is_kept() -> None:
    label = line(1, 20, 29, 20, 20, 29)
    number = [(1, (200 + 45 * n, 60, 240 + 45 * n, 100)) for n in range(3)]
    above = line(2, *[40] * 4)
    assert printed([*above, *label, *number], 4, 6, 7) == [*range(4, 9)]
    small = (1, (290, 80, 310, 100))  # a small digit of the number
    assert printed([*above, *label, *number[:2], small], 4, 6, 7) == [*range(4, 9)]
    assert printed([*above, *label, *number], 4, 6, 7, 10) == [*range(4, 9)]  # one of its digits is unreadable
    beside = [*line(3, *[40] * 2), *((3, (200 + 25 * n, 280, 220 + 25 * n, 300)) for n in range(4))]
    # Every letter of the second label looks like a digit.
    assert printed([*above, *label, *number, *beside], 4, 6, 7) == [*range(4, 9), *range(14, 18)]


def test_small_digits_beside_large_ones_are_not_small_print() -> None:
    prices = [
        piece
        for row in range(1, 4)
        for piece in [*line(row, 100, 100), *((row, (240 + 50 * n, 0, 285 + 50 * n, 48)) for n in range(2))]
    ]
    assert printed(prices, 10, 11) == []  # two cents are unreadable


def test_digits_slightly_smaller_than_usual_are_not_small_print() -> None:
    smaller = line(2, *[40, 38, 40, 38, 42] * 3)
    assert printed([*line(1, *[64] * 12), *smaller], 13, 15) == []


def test_misread_letters_do_not_change_the_height_of_the_digits() -> None:
    """Small print may have far more pieces than the numbers, most of which look like digits."""
    page = [*line(1, *[25] * 35), *line(2, *[50] * 6), *line(3, *[25] * 35)]
    letters = [*range(0, 35, 3), *range(41, 76, 3)]
    assert printed(page, *letters) == [*range(35), *range(41, 76)]


def test_a_line_with_letters_is_a_heading_and_a_page_of_letters_is_text() -> None:
    lines, letters = np.repeat([1, 2, 3], [6, 5, 5]), np.zeros(16, bool)
    letters[[0, 2]] = True
    assert in_headings(lines, letters).tolist() == [True] * 6 + [False] * 10
    letters[7] = True  # elsewhere, digits are unreadable, too
    assert not in_headings(lines, letters).any()
    text = np.arange(40) % 10 > 0
    assert in_headings(np.repeat([1, 2], 20), text).all()
    assert not in_headings(np.repeat([1, 2], 20), np.arange(40) % 10 > 2).any()
    assert not in_headings(np.repeat([1, 2], 10), text[:20]).any()  # too short to tell
