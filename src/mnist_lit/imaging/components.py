"""Connected components of the ink, and how they lie to each other. NumPy and OpenCV only."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mnist_lit.imaging.ink import Component, label_components
from mnist_lit.imaging.stroke_width import Mask

MAX_COMPONENTS = 500  # the largest of a page; the rest is dust or texture
WIDEST = 1.7  # greatest width of one digit, in heights


def components(mask: Mask, top: int = 0, left: int = 0) -> list[Component]:
    """The largest 8-connected components of a part of the page that starts at top and left."""
    labels, stats = label_components(mask)
    found = []
    for number in np.sort(stats[1:, 4].argsort(kind="stable")[-MAX_COMPONENTS:] + 1).tolist():
        x, y, width, height, _ = stats[number].tolist()
        part = labels[y : y + height, x : x + width] == number
        found.append(Component(top + y, left + x, top + y + height, left + x + width, part))
    return found


def typical_height(found: Sequence[Component]) -> float:
    """Median size, weighted by ink, so that dust does not count; 0 if there are no components. A component wider than
    any digit is several that touch, and counts with its height."""
    if not found:
        return 0.0
    heights = [one.height if one.width > WIDEST * one.height else one.size for one in found]
    sizes, areas = np.array([heights, [one.area for one in found]])
    return float(np.quantile(sizes, 0.5, weights=areas, method="inverted_cdf"))


def is_among(one: Component, others: Sequence[Component]) -> bool:
    """Whether the others include this very component; `in` would compare their masks."""
    return any(one is other for other in others)


def erase(mask: Mask, parts: Sequence[Component]) -> Mask:
    """The ink without that of some components."""
    if not parts:
        return mask
    kept = mask.copy()
    for part in parts:
        kept[part.where] &= ~part.mask
    return kept


def union(parts: Sequence[Component]) -> Component:
    """Components as one."""
    if len(parts) == 1:
        return parts[0]
    boxes = np.array([one[:4] for one in parts])
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((bottom - top, right - left), bool)
    for one in parts:
        mask[one.top - top : one.bottom - top, one.left - left : one.right - left] |= one.mask
    return Component(top, left, bottom, right, mask)


def overlaps(one: Component, other: Component) -> tuple[int, int]:
    """How far two boxes overlap down and across, in pixels; negative = gap."""
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return down, min(one.right, other.right) - max(one.left, other.left)


def gap_between(first: Component, second: Component, limit: float) -> float:
    """The distance between the ink of two components in pixels; infinite if their boxes are beyond the limit."""
    if min(overlaps(first, second)) < -limit:  # the boxes' gap is at most that of the ink, and far faster to find
        return math.inf
    both = union((first, second))
    canvas = np.ones((both.height, both.width), np.uint8)
    y, x = second.top - both.top, second.left - both.left
    canvas[y : y + second.height, x : x + second.width] -= second.mask
    distances = cv2.distanceTransform(canvas, cv2.DIST_L2, 3)
    y, x = first.top - both.top, first.left - both.left
    return float(distances[y : y + first.height, x : x + first.width][first.mask].min())
