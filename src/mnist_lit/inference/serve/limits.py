"""Limits of the server, with their defaults. Needs no FastAPI, so that `mnist-lit serve --help` can name them."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits of one request and of all requests together."""

    body: int = 20 << 20  # bytes of one body
    bodies: int = 200 << 20  # bytes of all bodies in progress
    seconds: float = 15  # for a body to arrive
    reading: float = 10  # seconds to find the digits of a picture
    threads: int = 2  # that read pictures
    waiting: int = 64  # requests in line for a thread
