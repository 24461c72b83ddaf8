"""Words and small print are told from numbers."""

import numpy as np

from mnist_lit.imaging.words import in_words, small_print

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


def test_small_print_with_a_few_letters_is_text() -> None:
    lines, heights = np.repeat([1, 2], [4, 8]), np.repeat([40, 20], [4, 8])
    letters = np.zeros(12, bool)
    assert small_print(lines, heights, letters) == []  # small digits
    letters[5] = True
    assert small_print(lines, heights, letters) == []  # of which one is unreadable
    letters[8] = True
    assert small_print(lines, heights, letters) == [2]
    assert small_print(lines, np.repeat([40, 30], [4, 8]), letters) == []  # nearly as high as the digits
    assert small_print(lines, heights, np.ones(12, bool)) == []  # no digits to compare with
