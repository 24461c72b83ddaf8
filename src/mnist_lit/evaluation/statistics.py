"""Whether numbers differ, and how far they can be trusted. NumPy and SciPy only; knows nothing of runs.

Each test is the usual one for its case, and can say that it sees no difference. SciPy takes half a second to import, so
it waits until it is needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Difference", "Spread", "mcnemar", "spread", "welch", "wilson_interval"]

Z = 1.959964  # of a normal distribution, 95 % lie within ± this many standard deviations


class Spread(NamedTuple):
    """What several runs scored."""

    n: int
    mean: float
    sd: float  # of single runs, with n - 1; nan of one
    low: float  # 95 % interval of the mean (Student's t); nan of one
    high: float

    def __str__(self) -> str:
        """Of shares in [0, 1], in per cent."""
        mean, sd = 100 * self.mean, 100 * self.sd
        low, high = max(100 * self.low, 0), min(100 * self.high, 100)
        if self.n == 1:
            return f"{mean:.3f} %  (n = 1)"
        return f"{mean:.3f} ± {sd:.3f} %  (n = {self.n}; 95 % interval of the mean {low:.3f} – {high:.3f} %)"


class Difference(NamedTuple):
    """Second minus first, its 95 % interval, and the chance of one as large if there were none."""

    value: float
    low: float
    high: float
    p: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and the mean's 95 % interval.

    >>> print(spread([0.99, 0.992]))
    99.100 ± 0.141 %  (n = 2; 95 % interval of the mean 97.829 – 100.000 %)
    """
    from scipy import stats

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Spread(n, mean, np.nan, np.nan, np.nan)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return Spread(n, mean, sd, mean - half, mean + half)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Welch's t-test of two groups' means; each needs two values.

    Groups without any spread give nothing to judge a difference by: p is 1 if they are equal, else nan.

    >>> welch([1.0, 2.0, 3.0], [1.5, 2.5, 3.0]).p > 0.5
    True
    """
    from scipy import stats

    value = float(np.mean(second) - np.mean(first))
    if len({*first}) == 1 and len({*second}) == 1:
        return Difference(value, np.nan, np.nan, np.nan if value else 1.0)
    result = stats.ttest_ind(second, first, equal_var=False)
    interval = result.confidence_interval()
    return Difference(value, float(interval.low), float(interval.high), float(result.pvalue))


def mcnemar(only_first: int, only_second: int, total: int) -> Difference:
    """Two classifiers on the same images: the exact test of those that only one of them has right (McNemar 1947).

    The interval of the difference in accuracy is the same test's: Clopper and Pearson's (1934) of the second's share.

    >>> mcnemar(12, 25, 10_000).p < 0.05 < mcnemar(15, 20, 10_000).p
    True
    """
    from scipy import stats

    discordant = only_first + only_second
    if not discordant:
        return Difference(0.0, 0.0, 0.0, 1.0)
    result = stats.binomtest(only_second, discordant)
    interval = result.proportion_ci()
    low, high = ((2 * share - 1) * discordant / total for share in (interval.low, interval.high))
    return Difference((only_second - only_first) / total, float(low), float(high), float(result.pvalue))


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), as numbers in [0, 1].

    >>> [round(bound, 4) for bound in wilson_interval(9934, 10_000)]
    [0.9916, 0.9948]
    """
    centre = (right + Z * Z / 2) / (total + Z * Z)
    half = Z * (right * (total - right) / total + Z * Z / 4) ** 0.5 / (total + Z * Z)
    return centre - half, centre + half
