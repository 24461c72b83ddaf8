"""Where several digits are possible, the network and their shapes choose."""

import numpy as np
from PIL import ImageDraw

from imaging.drawing import page
from mnist_lit.imaging.find_digits import page_hypotheses
from mnist_lit.imaging.hypotheses import Choice, FoundDigit, Hypotheses


def test_the_network_decides_between_hypotheses() -> None:
    touching = page(300)
    ImageDraw.Draw(touching).line((100, 100, 180, 100), 40, 6)
    for left in (60, 160):
        ImageDraw.Draw(touching).ellipse((left, 50, left + 60, 150), outline=40, width=8)
    hypotheses = page_hypotheses(touching)[0]
    widths = [right - left for (left, _, right, _), *_ in hypotheses.found]
    whole = [5.0 * (width < 130) for width in widths]
    halves = [5.0 * (width > 130) for width in widths]
    assert [len(hypotheses.choose(costs)) for costs in (whole, halves)] == [1, 2]


def test_the_edge_of_a_shadow_does_not_replace_the_digits_of_a_page() -> None:
    found = [FoundDigit((left, 50, left + 40, 110), np.zeros((28, 28), np.uint8)) for left in (10, 60, 110)]
    beside = FoundDigit((300, 0, 400, 400), np.zeros((28, 28), np.uint8))
    line = [Choice(number, number + 1, 0.0, number) for number in range(3)]
    hypotheses = Hypotheses([line], [*found, beside], whole_page=[(0.0, 3)])
    assert [digit for digit, *_ in hypotheses.choose([0.5, 0.5, 0.5, 0.1])] == [0, 1, 2]
    around = hypotheses._replace(found=[*found, beside._replace(box=(0, 0, 400, 400))])
    assert [digit for digit, *_ in around.choose([0.5, 0.5, 0.5, 0.1])] == [3]
    assert [digit for digit, *_ in around.choose([0.0, 0.0, 9.0, 0.1])] == [0, 1, 2]  # one odd digit does not matter


def test_what_is_left_out_of_a_line_counts_in_its_usual_form() -> None:
    """With its faint strokes, a speck may reach from a word to the digit beside it."""
    boxes = [(0, 0, 10, 20), (12, 0, 22, 20), (24, 0, 34, 20), (36, 12, 40, 20), (62, 0, 72, 20), (36, 4, 58, 20)]
    found = [FoundDigit(box, np.zeros((28, 28), np.uint8)) for box in boxes]
    line = [*(Choice(place, place + 1, 0.0, place) for place in range(5)), Choice(3, 4, 0.0, None)]
    fuller = Choice(3, 4, 0.0, 5)
    chosen = Hypotheses([[*line, fuller]], found).choose([0.1, 0.1, 0.1, 9, 0.1, 9], [True] * 3 + [True, False, True])
    assert [one.in_word for one in chosen] == [True, True, True, False]


def test_a_line_with_several_letters_among_lines_of_digits_is_a_heading() -> None:
    def in_headings(*lines: str) -> list[str]:
        """The lines with x for each piece in a word, given x for those that are rejected."""
        found = [
            FoundDigit((40 * column, 100 * line, 40 * column + 20, 100 * line + 30), np.zeros((28, 28), np.uint8))
            for line, text in enumerate(lines)
            for column in range(len(text))
        ]
        places = iter(range(len(found)))
        choices = [[Choice(column, column + 1, 0.0, next(places)) for column in range(len(text))] for text in lines]
        rejected = [piece == "x" for text in lines for piece in text]
        chosen = Hypotheses(choices, found).choose([0.1] * len(found), rejected)
        return [
            "".join("x" if one.in_word else "." for one in chosen if one.line == line)
            for line in range(1, len(lines) + 1)
        ]

    digits = "." * 20
    assert in_headings(".x.x.", digits, digits) == ["xxxxx", digits, digits]
    assert in_headings(".x....", digits) == ["......", digits]  # a single odd digit
    assert in_headings(".x.x....", digits) == ["........", digits]  # a quarter of them
    assert in_headings(".x.x.", "x" + 9 * ".") == [".....", 10 * "."]  # on a page that is hard to read
    assert in_headings(".x.x.") == ["....."]


def test_columns_are_counted_without_the_label_beside_a_number() -> None:
    label = [(12 * place, 20, 12 * place + 10, 32) for place in range(5)]
    numbers = [(90, 0, 110, 40), (115, 0, 135, 40), (90, 60, 110, 100), (115, 60, 135, 100)]
    found = [FoundDigit(box, np.zeros((28, 28), np.uint8)) for box in (*label, *numbers)]
    lines = [[Choice(place, place + 1, 0.0, place) for place in range(7)], [Choice(0, 1, 0.0, 7), Choice(1, 2, 0.0, 8)]]
    chosen = Hypotheses(lines, found).choose([0.1] * 9, [True] * 4 + [False] * 5)
    assert [(one.digit, one.line, one.column) for one in chosen] == [(5, 1, 1), (6, 1, 2), (7, 2, 1), (8, 2, 2)]
