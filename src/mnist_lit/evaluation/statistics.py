"""Intervals for scores, and tests for whether two scores differ. NumPy and SciPy only; knows nothing about runs.
`scipy.stats`, which takes half a second to import, is imported at its first use."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

Z = 1.959964  # 95 % of a normal distribution lie within ± this many standard deviations


class Spread(NamedTuple):
    """Mean and spread of several runs' scores."""

    n: int
    mean: float
    sd: float  # sample standard deviation (n - 1); nan for one run
    low: float  # 95 % interval of the mean (Student's t); nan for one run, and for runs that all agree
    high: float

    def __str__(self) -> str:
        """In percent, for fractions in [0, 1], with two digits of the standard deviation."""
        mean, sd, low, high = 100 * self.mean, 100 * self.sd, max(100 * self.low, 0), min(100 * self.high, 100)
        if self.n == 1:
            return f"{mean:.2f} %  (n = 1)"
        if not sd:
            return f"{mean:.3f} %  (n = {self.n}, all equal)"
        digits = min(max(1 - math.floor(math.log10(sd)), 0), 3)
        score = f"{mean:.{digits}f} ± {sd:.{digits}f} %"
        return f"{score}  (n = {self.n}; 95 % interval of the mean {low:.{digits}f} – {high:.{digits}f} %)"


class Difference(NamedTuple):
    """Second minus first, its 95 % interval, and the p-value of "no difference"."""

    value: float
    low: float
    high: float
    p: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and 95 % interval of the mean.

    >>> print(spread([0.99, 0.992]))
    99.10 ± 0.14 %  (n = 2; 95 % interval of the mean 97.83 – 100.00 %)
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Spread(n, mean, np.nan, np.nan, np.nan)
    sd = float(np.std(values, ddof=1))
    if len({*values}) == 1:  # rounding may leave a tiny deviation
        return Spread(n, mean, 0.0, np.nan, np.nan)
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return Spread(n, mean, sd, mean - half, mean + half)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Welch's t-test of the means of two groups of at least two values each.
    If neither group varies there is nothing to judge a difference by: p is 1 if they are equal, else nan.

    >>> welch([1.0, 2.0, 3.0], [1.5, 2.5, 3.0]).p > 0.5
    True
    """
    value = float(np.mean(second) - np.mean(first))
    if len({*first}) == len({*second}) == 1:
        return Difference(value, np.nan, np.nan, np.nan if value else 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where one group does not vary; the result is right
        result = scipy.stats.ttest_ind(second, first, equal_var=False)
    interval = result.confidence_interval()
    return Difference(value, float(interval.low), float(interval.high), float(result.pvalue))


def mcnemar(only_first: int, only_second: int, total: int) -> Difference:
    """McNemar's exact test (1947) of two classifiers on the same `total` images.
    It looks only at the images that exactly one of the two gets right: without a difference, either is right on half of
    them. The interval of the difference in accuracy is Bonett and Price's (2012): Wald's, with one more image for each.
    It is approximate, so it may just exclude 0 where the exact test is just not significant.

    >>> mcnemar(12, 25, 10_000).p < 0.05 < mcnemar(15, 20, 10_000).p
    True
    """
    value, discordant = (only_second - only_first) / total, only_first + only_second
    center, either = (only_second - only_first) / (total + 2), (discordant + 2) / (total + 2)
    half = Z * ((either - center**2) / (total + 2)) ** 0.5
    p = float(scipy.stats.binomtest(only_second, discordant).pvalue) if discordant else 1.0
    return Difference(value, max(center - half, -1.0), min(center + half, 1.0), p)


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a fraction (Wilson 1927), within [0, 1].

    >>> [round(bound, 4) for bound in wilson_interval(9934, 10_000)]
    [0.9916, 0.9948]
    """
    center = (right + Z * Z / 2) / (total + Z * Z)
    half = Z * (right * (total - right) / total + Z * Z / 4) ** 0.5 / (total + Z * Z)
    return max(center - half, 0.0), min(center + half, 1.0)  # rounding may exceed them
