"""What the server's clients send: pictures, and requests on raw connections."""

import contextlib
import io
import socket

from PIL import Image, ImageDraw

PNG = {"content-type": "image/png"}
SLOW = b"P5 4400 4400 254\n" + bytes(4400 * 4400)  # Pillow scales each of these pixels in Python
POST = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


def picture(*columns: int, format: str = "PNG") -> bytes:
    """Ones, upright strokes at these columns, as a file."""
    image = Image.new("L", (280, 280), 255)
    for column in columns:
        ImageDraw.Draw(image).line([(column, 60), (column, 220)], 0, 18)
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def read_until_closed(connection: socket.socket) -> bytes:
    """Everything that the server sends."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1 << 16):
            received += chunk
    return received
