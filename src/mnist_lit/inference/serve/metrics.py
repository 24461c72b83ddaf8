"""Request and reading counts for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # the format that every Prometheus reads
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
# All other paths share one label, since clients can invent any number of them.
ROUTES = ("/", "/predict", "/activations", "/health", "/metrics", "/docs")


class Metrics(CollectorRegistry):
    """One application's metrics; the library's global registry stays unused."""

    def __init__(self) -> None:
        super().__init__()
        self._requests = Counter("mnist_lit_requests", "Requests answered.", ("route", "status"), registry=self)
        seconds = "From a request's headers to the end of its response."
        self._seconds = Histogram("mnist_lit_request_seconds", seconds, ("route",), buckets=BUCKETS, registry=self)
        self.readings = Counter("mnist_lit_readings", "Digits read, by status.", ("status",), registry=self)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        route = path if path in ROUTES else "other"
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """All metrics without `_created` samples, which the library can only switch off for the whole process."""
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
