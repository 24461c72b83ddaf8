"""Components are found, measured and joined as they lie on the page."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mnist_lit.imaging.components import (
    MAX_BOXES,
    Component,
    are_near,
    components,
    label_components,
    typical_height,
    union,
)
from mnist_lit.imaging.stroke_width import Mask


def mask_of(*rows: str) -> Mask:
    """A mask drawn with # for ink."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def bar(top: int, left: int, height: int, width: int) -> Component:
    """A rectangle full of ink."""
    return Component(top, left, top + height, left + width, np.ones((height, width), bool))


RING = Component(10, 20, 15, 25, mask_of("#####", "#...#", "#...#", "#...#", "#####"))


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    labels, stats = label_components(mask_of("#...", ".#..", "...#"))
    assert labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2]]
    assert stats[1:].tolist() == [[0, 0, 2, 2, 2], [3, 2, 1, 1, 1]]  # left, top, width, height, area


@pytest.mark.parametrize("ink", [0.0, 0.05, 0.4, 1.0])
def test_components_measure_the_same_as_opencvs(ink: float) -> None:
    mask = np.random.default_rng(0).random((37, 52)) < ink
    labels, stats = label_components(mask)
    _, expected_labels, expected, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8), 8, cv2.CV_32S, cv2.CCL_GRANA
    )
    assert (labels == expected_labels).all()
    assert (stats[1:] == expected[1:]).all()
    assert stats[0].tolist() == [0, 0, 52, 37, (~mask).sum()]


def test_components_lie_where_they_are_on_the_page() -> None:
    one, other = components(mask_of("##.", "...", "..#"), top=5, left=7)
    assert one.box == (5, 7, 6, 9)
    assert other.box == (7, 9, 8, 10)
    assert one.mask.tolist() == [[True, True]]


def test_only_the_largest_components_are_kept_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.imaging.components.MAX_COMPONENTS", 2)
    assert [one.size for one in components(mask_of("##.#.####"))] == [2, 4]


def test_long_lines_side_by_side_do_not_take_up_memory_for_their_boxes() -> None:
    """Each box covers the page, although its line has few pixels."""
    hatching = np.zeros((200, 200), bool)
    down, across = np.indices(hatching.shape)
    hatching[(down + across) % 5 == 0] = True
    hatching[90:110, 90:110] = False
    hatching[95:105, 99:101] = True
    found = components(hatching)
    assert sum(one.mask.size for one in found) <= MAX_BOXES * hatching.size
    assert (95, 99, 105, 101) in [one.box for one in found]  # what is small stays


def test_dust_hardly_changes_the_typical_height() -> None:
    dust = [bar(0, left, 1, 1) for left in range(50)]
    assert typical_height([]) == 0
    assert typical_height([*dust, bar(0, 0, 20, 9), bar(0, 0, 22, 9)]) == 20
    assert typical_height([bar(0, 0, 3, 5)]) == 5  # the larger side
    assert typical_height([bar(0, 0, 10, 18)]) == 10  # unless several digits touch


def test_components_are_near_by_their_ink_and_not_by_their_boxes() -> None:
    assert are_near(bar(0, 0, 5, 5), bar(1, 8, 3, 3), 4.3)
    assert not are_near(bar(0, 0, 5, 5), bar(1, 8, 3, 3), 3.7)
    for pair in ((RING, bar(12, 22, 1, 1)), (bar(12, 22, 1, 1), RING)):  # the boxes overlap
        assert are_near(*pair, 2.3)
        assert not are_near(*pair, 1.7)


def test_a_union_has_the_ink_of_all_parts() -> None:
    both = union((bar(2, 3, 1, 2), bar(4, 1, 1, 1)))
    assert both.box == (2, 1, 5, 5)
    assert both.mask.tolist() == mask_of("..##", "....", "#...").tolist()
    assert union((RING,)) is RING
    assert union((bar(12, 22, 1, 1), RING)).area == 17  # their boxes overlap


def test_what_has_ink_on_all_sides_of_another_encloses_it() -> None:
    assert RING.encloses(bar(12, 22, 1, 1))
    open_below = replace(RING, mask=mask_of("#####", "#...#", "#...#", "#...#", "#...#"))
    assert open_below.contains(bar(12, 22, 1, 1))
    assert not open_below.encloses(bar(12, 22, 1, 1))
    assert not RING.encloses(bar(12, 24, 1, 2))  # not within its box
