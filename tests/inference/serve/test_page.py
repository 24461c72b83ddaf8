"""The pages in a browser: digits drawn with the mouse are read, and nothing is loaded from another address."""

import io
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from PIL import Image, ImageDraw

from mnist_lit.runs.locate import PRETRAINED_DIR

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("fastapi", reason="the serve extra is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no chromium; `make browser` installs it", allow_module_level=True)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page, Route

Point = tuple[float, float]
TIMEOUT = 20_000  # milliseconds; other tests keep the machine busy


def arc(x: float, y: float, rx: float, ry: float, begin: float, end: float) -> list[Point]:
    """Points on an ellipse, in degrees clockwise from three o'clock."""
    angles = [math.radians(begin + (end - begin) * step / 14) for step in range(15)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


DIGITS = {  # strokes within a box of width 0.6 and height 1
    "0": [arc(0.3, 0.5, 0.27, 0.48, -80, 285)],
    "1": [[(0.36, 0.02), (0.28, 0.98)]],
    "2": [[*arc(0.3, 0.27, 0.25, 0.25, 190, 380), (0.06, 0.96), (0.6, 0.94)]],
    "3": [[*arc(0.27, 0.26, 0.24, 0.23, 205, 440), *arc(0.27, 0.73, 0.27, 0.25, -80, 155)]],
    "4": [[(0.2, 0.04), (0.02, 0.58), (0.6, 0.55)], [(0.46, 0.05), (0.42, 0.98)]],
    "5": [[(0.55, 0.03), (0.13, 0.05), (0.1, 0.45), *arc(0.24, 0.68, 0.28, 0.28, -70, 150)]],
    "6": [[(0.44, 0.02), *arc(0.32, 0.62, 0.28, 0.5, 215, 180), *arc(0.3, 0.72, 0.25, 0.25, 180, -170)]],
    "7": [[(0.02, 0.08), (0.57, 0.04), (0.22, 0.98)]],
    "8": [[*arc(0.3, 0.26, 0.2, 0.23, 60, -240), *arc(0.3, 0.74, 0.26, 0.25, -110, 250)]],
    "9": [[*arc(0.29, 0.28, 0.24, 0.25, -10, -365), (0.5, 0.6), (0.44, 0.98)]],
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server."""
    command = [sys.executable, "-m", "mnist_lit", "serve", "--model", str(PRETRAINED_DIR / "model.onnx"), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as run:
        assert run.stdout
        yield re.findall(r"http://\S+", run.stdout.readline())[0]
        run.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One Chromium for all tests."""
    api.expect.set_options(timeout=TIMEOUT)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A person using the page."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.words = page.locator("#words")
        self.number = page.locator("#number")

    def pad(self) -> "FloatRect":
        """Where the pad is, in pixels of the window."""
        box = self.page.locator("#paper").bounding_box()
        assert box
        return box

    def draw(self, digit: str, x: float = 0.3, y: float = 0.15, size: float = 0.7) -> None:
        """Draw a digit; coordinates are fractions of the pad's side."""
        pad = self.pad()
        for stroke in DIGITS[digit]:
            points = [
                (pad["x"] + pad["width"] * (x + size * u), pad["y"] + pad["height"] * (y + size * v)) for u, v in stroke
            ]
            self.page.mouse.move(*points[0])
            self.page.mouse.down()
            for point in points[1:]:
                self.page.mouse.move(*point, steps=2)
            self.page.mouse.up()

    def reads(self, number: str) -> None:
        """Wait until the page shows this number."""
        api.expect(self.number).to_have_text(number)


@pytest.fixture
def visit(browser: "Browser", server: str) -> Iterator[Callable[..., Visitor]]:
    """Opens the page. Checks at the end that the console is empty and only the server received requests."""
    contexts, console, requested = [], [], []

    def open_page(path: str = "", **options: Any) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(server + path)
        return Visitor(page)

    yield open_page
    for context in contexts:
        context.close()
    assert not [url for url in requested if not url.startswith((server, "data:"))]
    expected = ("ERR_INTERNET_DISCONNECTED", "ERR_CONNECTION_REFUSED", "status of 500", "status of 503")
    assert not [text for text in console if not any(part in text for part in expected)]


def test_each_drawn_digit_is_read(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    for digit in DIGITS:
        visitor.draw(digit)
        visitor.reads(digit)
        api.expect(visitor.page.locator("#bars .best")).to_have_attribute("data-name", digit)
        visitor.page.click("#clear")
        visitor.reads("–")


def test_a_finger_draws_without_scrolling_the_page(visit: Callable[..., Visitor]) -> None:
    page = visit(viewport={"width": 360, "height": 640}, has_touch=True).page
    pad, fingers = page.locator("#paper").bounding_box(), page.context.new_cdp_session(page)
    assert pad
    (seven,) = DIGITS["7"]
    at = [{"x": pad["x"] + pad["width"] * (0.3 + 0.7 * x), "y": pad["y"] + 30 + 260 * y} for x, y in seven]
    for kind, points in [("touchStart", at[:1]), ("touchMove", at[1:2]), ("touchMove", at[2:]), ("touchEnd", [])]:
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    api.expect(page.locator("#number")).to_have_text("7")
    assert page.evaluate("scrollY") == 0


SIZES = [(320, 568), (360, 640), (375, 667), (390, 664), (667, 375), (568, 320), (640, 400), (844, 390)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pad_and_reading_fit_a_phones_screen(visit: Callable[..., Visitor], width: int, height: int) -> None:
    visitor = visit(viewport={"width": width, "height": height}, has_touch=True)
    visitor.draw("7")
    visitor.reads("7")
    pad, number = visitor.page.locator("#pad").bounding_box(), visitor.number.bounding_box()
    assert pad
    assert number
    assert pad["y"] + pad["height"] < height
    assert number["y"] + number["height"] < height
    assert (number["x"] > pad["x"] + pad["width"]) == (width > height)  # beside or below it
    assert pad["width"] == pad["height"] > 0.75 * min(width, height)
    assert visitor.page.evaluate("scrollY") == 0
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "height"), [(320, 568), (568, 320), (844, 390)])
def test_no_word_is_broken_and_no_example_is_alone_on_a_phone(
    visit: Callable[..., Visitor], width: int, height: int
) -> None:
    visitor = visit(viewport={"width": width, "height": height}, has_touch=True)
    visitor.page.get_by_role("button", name="Try a number, 275").click()
    visitor.reads("275")
    broken = """caption => [...caption.firstChild.data.matchAll(/\\S+/g)].filter((word) => {
        const range = document.createRange();
        range.setStart(caption.firstChild, word.index);
        range.setEnd(caption.firstChild, word.index + word[0].length);
        return range.getClientRects().length > 1;
    }).map(String)"""
    assert visitor.page.locator(".prediction figcaption").evaluate(broken) == []
    heights = visitor.page.locator("#examples button").evaluate_all("all => all.map(one => one.offsetTop)")
    assert heights.count(heights[-1]) in (3, 6)


def test_a_stroke_ends_when_the_screen_is_turned(visit: Callable[..., Visitor]) -> None:
    visitor = visit(viewport={"width": 390, "height": 664})
    pad = visitor.pad()
    visitor.page.mouse.move(pad["x"] + 0.52 * pad["width"], pad["y"] + 50)
    visitor.page.mouse.down()
    visitor.page.mouse.move(pad["x"] + 0.48 * pad["width"], pad["y"] + 0.8 * pad["height"], steps=5)
    visitor.page.set_viewport_size({"width": 664, "height": 390})
    visitor.reads("1")
    visitor.page.mouse.move(10, 10, steps=5)
    visitor.page.mouse.up()
    visitor.page.click("#undo")
    api.expect(visitor.page.locator("#undo")).to_be_disabled()


def test_several_digits_are_read_as_a_number_or_as_one_digit(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    for place, digit in enumerate("372"):
        visitor.draw(digit, x=0.06 + 0.32 * place, y=0.3, size=0.38)
    visitor.reads("372")
    assert visitor.page.locator(".box b").all_inner_texts() == ["3", "7", "2"]
    visitor.page.locator("#each button").nth(1).click()
    api.expect(visitor.page.locator("#bars .best")).to_have_attribute("data-name", "7")
    visitor.page.get_by_label("One digit").check()
    api.expect(visitor.page.locator(".box")).to_have_count(0)


def change_readings(visitor: Visitor, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change what the server answers from now on."""

    def answer(route: "Route") -> None:
        response = route.fetch()
        content = response.json()
        change(content["readings"])
        route.fulfill(response=response, json=content)

    visitor.page.route("**/predict*", answer)


def test_each_line_is_a_number_in_a_row_of_its_own(visit: Callable[..., Visitor]) -> None:
    def into_two_lines(readings: list[dict[str, Any]]) -> None:
        for index, reading in enumerate(readings):
            reading["line"], reading["column"] = (1, index + 1) if index < 2 else (2, index - 1)
        if len(readings) == 3:
            readings[1]["status"] = "rejected"

    visitor = visit()
    change_readings(visitor, into_two_lines)
    for place, digit in enumerate("372"):
        visitor.draw(digit, x=0.06 + 0.32 * place, y=0.3, size=0.38)
    api.expect(visitor.words).to_have_text("3 digits in 2 lines, 1 rejected: 3?, 2")
    assert visitor.number.inner_text() == "3?\n2"
    rows = visitor.page.locator("#each").get_by_role("group")
    assert [row.get_by_role("button").count() for row in rows.all()] == [2, 1]
    rows.nth(1).get_by_role("button").click()
    api.expect(visitor.page.locator("#bars .best")).to_have_attribute("data-name", "2")


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        ("ok", "2 digits found", "sure. 2 digits found: choose “All digits” to read them"),
        ("rejected", "not a digit; 2 characters found", "Not a digit. 2 characters found: choose “All digits”"),
        ("rejected", "not a digit", "Not a digit."),
    ],
)
def test_a_number_read_as_one_digit_tells_how_to_read_it(
    status: str, message: str, words: str, visit: Callable[..., Visitor]
) -> None:
    def see_more(readings: list[dict[str, Any]]) -> None:
        advice = "; add ?many=true to read them all" if "found" in message else ""
        readings[0] |= {"status": status, "message": message + advice}

    visitor = visit()
    visitor.page.get_by_label("One digit").check()
    change_readings(visitor, see_more)
    visitor.draw("7")
    api.expect(visitor.words).to_contain_text(words)


def picture(number: str, format: str = "PNG", scale: int = 1) -> bytes:
    """A number of one or two digits as a file."""
    image = Image.new("RGB", (600 * scale, 300 * scale), "white")
    pen = ImageDraw.Draw(image)
    for place, digit in enumerate(number):
        for stroke in DIGITS[digit]:
            points = [(scale * (120 + 220 * place + 170 * x), scale * (60 + 170 * y)) for x, y in stroke]
            pen.line(points, "navy", 16 * scale, joint="curve")
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def choose(visitor: Visitor, name: str, content: bytes) -> None:
    """Choose a file with the button."""
    visitor.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})


@pytest.mark.parametrize(
    ("name", "format"), [("a.HEIC", "HEIF"), ("a.tif", "TIFF"), ("a.jp2", "JPEG2000"), ("a.pgm", "PPM")]
)
def test_a_picture_that_the_browser_cannot_show_is_read(visit: Callable[..., Visitor], name: str, format: str) -> None:
    if format == "HEIF":
        pytest.importorskip("pillow_heif", reason="the heic extra is not installed").register_heif_opener()
    visitor = visit()
    choose(visitor, name, picture("7", format))
    visitor.reads("7")
    api.expect(visitor.page.locator("#hint")).to_have_text(f"This browser cannot show {name}.")
    api.expect(visitor.page.locator(".box")).to_have_count(0)
    visitor.page.click("#clear")
    api.expect(visitor.page.locator("#hint")).to_contain_text("drop or paste a picture")


def test_a_chosen_file_may_be_deleted(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture("7"))
    visitor = visit()
    visitor.page.set_input_files("#file", file)
    visitor.reads("7")
    file.unlink()
    with visitor.page.expect_response("**/predict?many=false"):
        visitor.page.get_by_label("One digit").check()
    visitor.reads("7")


def choose_slowly(visitor: Visitor, content: bytes) -> None:
    """Choose a picture that the browser decodes only once `let_decode` is called."""
    visitor.page.evaluate("""() => {
        const original = createImageBitmap;
        window.createImageBitmap = async (...args) => {
            window.createImageBitmap = original;
            await new Promise((done) => (window.goOn = done));
            window.decoded = await original(...args);
            return window.decoded;
        };
    }""")
    choose(visitor, "slow.png", content)
    visitor.page.wait_for_function("() => window.goOn")


def let_decode(visitor: Visitor) -> None:
    """Let the picture of `choose_slowly` be decoded, and what is then on the pad be read as one digit."""
    visitor.page.evaluate("goOn()")
    visitor.page.wait_for_function("() => window.decoded")
    with visitor.page.expect_response("**/predict?many=false"):
        visitor.page.get_by_label("One digit").check()  # reads what is on the pad


def test_the_last_of_two_chosen_pictures_is_shown_even_if_the_first_takes_longer(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    choose_slowly(visitor, picture("3"))
    choose(visitor, "fast.png", picture("7"))
    visitor.reads("7")
    let_decode(visitor)
    visitor.reads("7")


def test_a_large_picture_is_kept_small_and_boxed_in_place(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.evaluate("""() => {
        const original = createImageBitmap;
        window.bitmaps = [];
        window.createImageBitmap = async (...args) => {
            window.bitmaps.push(await original(...args));
            return window.bitmaps.at(-1);
        };
    }""")
    choose(visitor, "a.png", picture("47", scale=5))
    visitor.reads("47")
    sizes = visitor.page.evaluate("bitmaps.map(({ width, height }) => [width, height])")
    assert [size for size in sizes if size != [0, 0]] == [[1600, 800]]  # a closed one has no size
    box, pad = visitor.page.locator(".box").first.bounding_box(), visitor.pad()
    assert box
    assert abs((box["x"] - pad["x"]) / pad["width"] - 120 / 600) < 0.03
    assert abs((box["y"] - pad["y"]) / pad["height"] - (60 + 150) / 600) < 0.04


def photo(format: str) -> bytes:
    """A photo of 47, 3000×1500 and larger than a MiB."""
    image = Image.open(io.BytesIO(picture("47", scale=5)))
    noise = Image.effect_noise(image.size, 20).convert("RGB")
    file = io.BytesIO()
    Image.blend(image, noise, 0.2).save(file, format, quality=95)
    return file.getvalue()


KEEP_SENT_FILE = """() => {
    const original = fetch;
    window.fetch = (url, options) => {
        window.sent = options?.body?.get?.("file") ?? window.sent;
        return original(url, options);
    };
}"""


def test_a_large_photo_is_sent_smaller_and_boxed_in_place(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.evaluate(KEEP_SENT_FILE)
    choose(visitor, "a.jpg", photo("JPEG"))
    visitor.reads("47")
    size = "createImageBitmap(sent).then(({ width, height }) => [sent.name, width, height])"
    assert visitor.page.evaluate(size) == ["a.jpg", 1600, 800]
    assert visitor.page.evaluate("sent.size") < 1 << 20
    box, pad = visitor.page.locator(".box").first.bounding_box(), visitor.pad()
    assert box
    assert abs((box["x"] - pad["x"]) / pad["width"] - 120 / 600) < 0.03
    assert abs((box["y"] - pad["y"]) / pad["height"] - (60 + 150) / 600) < 0.04


@pytest.mark.parametrize(("name", "format"), [("a.png", "PNG"), ("a.jpg", "")])
def test_other_pictures_are_sent_as_they_are(visit: Callable[..., Visitor], name: str, format: str) -> None:
    visitor = visit()
    visitor.page.evaluate(KEEP_SENT_FILE)
    content = photo(format) if format else picture("47", "JPEG", scale=5)  # transparency; and less than a MiB
    choose(visitor, name, content)
    visitor.reads("47")
    assert visitor.page.evaluate("sent.size") == len(content)


@pytest.mark.parametrize("cut_off", [True, False])
def test_a_picture_that_takes_too_long_to_send_is_not_sent_again(
    visit: Callable[..., Visitor], *, cut_off: bool
) -> None:
    visitor = visit()
    requests: list[Route] = []
    visitor.page.clock.install()
    visitor.page.route("**/predict*", lambda route: requests.append(route))
    with visitor.page.expect_request("**/predict*"):
        choose(visitor, "a.png", picture("47"))
    visitor.page.clock.run_for(15_000 if cut_off else 30_000)
    if cut_off:  # the server's own limit
        requests[0].abort("connectionrefused")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("Sending this picture takes too long.")
    visitor.page.clock.run_for(10_000)
    assert len(requests) == 1


def test_a_stroke_is_not_replaced_by_a_picture_that_was_chosen_before(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    choose_slowly(visitor, picture("3"))
    visitor.draw("7")
    visitor.reads("7")
    let_decode(visitor)
    visitor.reads("7")


def test_a_picture_stays_when_something_else_is_chosen_or_dropped(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    choose(visitor, "a.png", picture("47"))
    visitor.reads("47")
    choose(visitor, "a.svg", b"<svg/>")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text(
        "a.svg is not a picture that can be read. Choose JPEG"
    )
    visitor.page.locator("#each button").nth(1).click()
    api.expect(visitor.words).to_have_text("2 digits: 47")
    visitor.page.evaluate("""() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add("text", "text/plain");
        const moved = new DragEvent("dragover", { bubbles: true, cancelable: true, dataTransfer });
        document.body.dispatchEvent(moved);
        if (dataTransfer.dropEffect !== "none" || moved.defaultPrevented)
            document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer }));
    }""")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("This is not a file.")
    visitor.reads("47")


def test_an_error_is_seen_wherever_the_page_is_scrolled_to(visit: Callable[..., Visitor]) -> None:
    visitor = visit(viewport={"width": 390, "height": 664})
    for height in (0, 300, 5000):
        visitor.page.evaluate(f"scrollTo(0, {height})")
        choose(visitor, "a.pdf", b"no picture")
        alert = visitor.page.get_by_role("alert")
        api.expect(alert).to_be_visible()
        api.expect(alert).to_be_in_viewport(ratio=1)
        visitor.page.keyboard.press("Escape")
        api.expect(alert).to_be_hidden()


def test_undo_and_clear_by_button_and_key(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.draw("1", x=0.1, y=0.3, size=0.4)
    visitor.draw("7", x=0.5, y=0.3, size=0.4)
    visitor.reads("17")
    visitor.page.click("#undo")
    visitor.reads("1")
    visitor.page.keyboard.press("Escape")
    visitor.reads("–")
    api.expect(visitor.page.locator("#clear")).to_be_disabled()
    visitor.page.keyboard.press("Control+z")
    visitor.reads("1")
    visitor.page.keyboard.press("Control+z")
    visitor.reads("–")
    api.expect(visitor.page.locator("#undo")).to_be_disabled()


def test_undo_and_clear_take_back_a_stroke_in_progress(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    choose(visitor, "a.png", picture("47"))
    visitor.reads("47")
    pad = visitor.pad()

    def press_during_a_stroke(key: str) -> None:
        visitor.page.mouse.move(pad["x"] + 50, pad["y"] + 50)
        visitor.page.mouse.down()
        visitor.page.mouse.move(pad["x"] + 60, pad["y"] + 150)
        visitor.page.keyboard.press(key)
        visitor.page.mouse.move(pad["x"] + 70, pad["y"] + 250)
        visitor.page.mouse.up()

    press_during_a_stroke("Control+z")  # the stroke has replaced the picture
    visitor.reads("47")
    visitor.draw("7")
    visitor.reads("7")
    press_during_a_stroke("Control+z")
    visitor.reads("7")
    press_during_a_stroke("Escape")
    visitor.reads("–")
    for number in ("7", "47", "–"):
        visitor.page.click("#undo")
        visitor.reads(number)


@pytest.mark.parametrize("key", ["Escape", "Delete", "Backspace"])
def test_keys_clear_and_undo_on_any_keyboard(visit: Callable[..., Visitor], key: str) -> None:
    visitor = visit()
    visitor.draw("7")
    visitor.reads("7")
    visitor.page.keyboard.press(key)
    visitor.reads("–")
    visitor.page.evaluate('dispatchEvent(new KeyboardEvent("keydown", { key: "я", code: "KeyZ", ctrlKey: true }))')
    visitor.reads("7")
    visitor.page.evaluate('dispatchEvent(new KeyboardEvent("keydown", { key: "y", code: "KeyZ", ctrlKey: true }))')
    visitor.reads("7")  # this was Ctrl+Y on a German keyboard


def test_the_focus_moves_on_from_a_button_that_is_disabled(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.draw("7")
    visitor.page.locator("#clear").focus()
    for focused in ("undo", "undo", "file"):
        visitor.page.keyboard.press("Enter")
        assert visitor.page.evaluate("document.activeElement.id") == focused


def test_everything_is_labeled_and_reachable_by_keyboard(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.draw("7")
    visitor.reads("7")
    visitor.page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(13):
        visitor.page.keyboard.press("Tab")
        reached.append(visitor.page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert visitor.page.evaluate("document.activeElement.matches(':focus-visible')")
    examples = reached[4:10]
    assert reached == ["undo", "clear", "file", "many", *examples, "live", "API", "Metrics"]
    assert visitor.page.get_by_role("group", name="Try").get_by_role("button").count() == len(examples)
    assert "7" in visitor.page.get_by_role("status").inner_text()
    meter = visitor.page.get_by_role("meter", name="7")
    assert float(meter.get_attribute("aria-valuenow") or 0) > 0.5
    assert visitor.page.get_by_role("meter").count() == 10


def test_a_picture_can_be_chosen_dropped_or_pasted_and_its_digits_are_boxed(visit: Callable[..., Visitor]) -> None:
    file, visitor = picture("47", "JPEG"), visit()
    choose(visitor, "a.jpg", file)
    visitor.reads("47")
    box, pad = visitor.page.locator(".box").first.bounding_box(), visitor.page.locator("#pad").bounding_box()
    assert box
    assert pad
    assert abs((box["x"] - pad["x"]) / pad["width"] - 120 / 600) < 0.03
    assert abs((box["y"] - pad["y"]) / pad["height"] - (60 + 150) / 600) < 0.04
    visitor.page.click("#clear")
    give = """([kind, bytes, count]) => {
        const given = new DataTransfer();
        const file = new File([new Uint8Array(bytes)], "a.jpg", { type: "image/jpeg" });
        for (let i = 0; i < count; i++) given.items.add(file);
        const options = { bubbles: true, dataTransfer: given, clipboardData: given };
        const event = kind === "drop" ? new DragEvent(kind, options) : new ClipboardEvent(kind, options);
        document.body.dispatchEvent(event);
    }"""
    for kind, count, note in [
        ("drop", 1, ""),
        ("paste", 1, ""),
        ("drop", 20, "Only the first of 20 files was taken. "),
    ]:
        visitor.page.evaluate(give, [kind, list(file), count])
        api.expect(visitor.words).to_have_text(f"{note}2 digits: 47")
        visitor.page.click("#clear")
    choose(visitor, "a.txt", b"no picture")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("a.txt is not a picture")
    visitor.reads("–")
    api.expect(visitor.page.locator("#clear")).to_be_disabled()
    visitor.page.keyboard.press("Escape")
    api.expect(visitor.page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(("dragged", "marked"), [("new File([''], 'a.png')", True), ("'text', 'text/plain'", False)])
def test_the_pad_is_marked_as_a_target_for_files_only(
    visit: Callable[..., Visitor], dragged: str, *, marked: bool
) -> None:
    page = visit().page
    page.evaluate(f"""() => {{
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add({dragged});
        document.body.dispatchEvent(new DragEvent("dragover", {{ bubbles: true, dataTransfer }}));
    }}""")
    assert page.locator("#pad.dropping").count() == marked


def test_a_scribble_is_not_a_digit(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.get_by_label("One digit").check()
    pad = visitor.pad()
    visitor.page.mouse.move(pad["x"] + 60, pad["y"] + 60)
    visitor.page.mouse.down()
    for step in range(1, 60):
        x, y = 0.5 + 0.4 * math.sin(step * 2.3), 0.5 + 0.4 * math.cos(step * 1.7)
        visitor.page.mouse.move(pad["x"] + pad["width"] * x, pad["y"] + pad["height"] * y)
    visitor.page.mouse.up()
    visitor.reads("?")
    api.expect(visitor.words).to_have_text("Not a digit.")
    api.expect(visitor.page.locator("#unsure")).to_contain_text("there are no probabilities")
    api.expect(visitor.page.get_by_role("meter")).to_have_count(0)
    assert "%" not in visitor.page.locator("main").inner_text()


def test_each_example_is_drawn_and_read_and_can_be_undone(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    buttons = visitor.page.get_by_role("group", name="Try").get_by_role("button")
    for index, number in enumerate(["3", "8", "4", "275", "16\n904", "?"]):
        buttons.nth(index).focus()
        visitor.page.keyboard.press("Enter")
        visitor.reads(number)
    api.expect(visitor.page.get_by_role("meter")).to_have_count(0)
    visitor.page.keyboard.press("Control+z")
    visitor.reads("16\n904")
    rows = visitor.page.locator("#each").get_by_role("group")
    assert [row.get_attribute("aria-label") for row in rows.all()] == ["Line 1: 16", "Line 2: 904"]


def test_a_new_picture_clears_the_old_reading_before_it_is_answered(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.draw("7")
    visitor.reads("7")
    waiting: list[Route] = []
    visitor.page.route("**/predict*", lambda route: waiting.append(route))  # it marks the function
    visitor.page.get_by_role("button", name="Try a three").click()
    visitor.reads("–")
    api.expect(visitor.page.locator("#bars .best")).to_have_count(0)
    api.expect(visitor.words).to_have_text("Reading…")
    waiting[0].continue_()
    visitor.reads("3")
    visitor.draw("1", x=0.8, size=0.2)  # a stroke more: the reading goes only if the answer takes a while
    api.expect(visitor.words).to_have_text("Reading…")
    visitor.reads("–")


def test_the_convolutions_of_the_chosen_digit_are_shown_once_switched_on(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    maps = visitor.page.locator("#layers img")
    visitor.page.get_by_role("button", name="Try a number, 275").click()
    visitor.reads("275")
    api.expect(maps).to_have_count(0)
    visitor.page.get_by_role("switch").check()
    api.expect(maps).to_have_count(4 * 8)
    captions = visitor.page.locator("#layers figcaption").all_inner_texts()
    assert captions[0] == "conv1 32 maps of 26×26"
    assert captions[3] == "conv4 256 maps of 8×8"
    assert [maps.nth(8 * n).evaluate("image => image.decode().then(() => image.naturalWidth)") for n in range(4)] == [
        26,
        24,
        10,
        8,
    ]
    before = maps.first.get_attribute("src")
    visitor.page.locator("#each button").first.click()
    api.expect(maps.first).not_to_have_attribute("src", before or "")
    visitor.page.reload()
    api.expect(visitor.page.get_by_role("switch")).to_be_checked()
    api.expect(visitor.page.locator("#inside-note")).to_have_text("The maps of the next digit appear here.")


def test_a_stroke_is_read_while_it_is_drawn_if_the_convolutions_are_shown(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.get_by_role("switch").check()
    pad = visitor.pad()
    visitor.page.mouse.move(pad["x"] + 0.52 * pad["width"], pad["y"] + 50)
    visitor.page.mouse.down()
    visitor.page.mouse.move(pad["x"] + 0.48 * pad["width"], pad["y"] + 0.8 * pad["height"], steps=5)
    visitor.page.wait_for_timeout(200)  # the pause between two readings
    visitor.page.mouse.move(pad["x"] + 0.47 * pad["width"], pad["y"] + 0.85 * pad["height"])
    visitor.reads("1")
    api.expect(visitor.page.locator("#layers img")).to_have_count(4 * 8)


def test_another_network_has_no_switch(visit: Callable[..., Visitor]) -> None:
    visitor = visit()

    def without_layers(route: "Route") -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"layers": []})

    visitor.page.route("**/health", without_layers)
    visitor.page.reload()
    api.expect(visitor.page.locator("#model")).to_contain_text("Pictures that do not look like a digit are rejected.")
    api.expect(visitor.page.get_by_role("switch")).to_have_count(0)


def test_an_offline_drawing_is_kept_and_read_once_the_server_is_back(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.draw("3")
    visitor.reads("3")
    visitor.page.context.set_offline(True)
    visitor.page.click("#clear")
    visitor.draw("7")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("cannot be reached")
    visitor.page.context.set_offline(False)
    visitor.reads("7")
    api.expect(visitor.page.locator("#trouble")).to_be_hidden()


def test_a_drawing_is_read_once_a_busy_server_has_time(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.route("**/predict*", lambda route: route.fulfill(status=503, json={"detail": "busy"}), times=1)
    visitor.draw("7")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("The server is busy.")
    visitor.reads("7")
    api.expect(visitor.page.locator("#trouble")).to_be_hidden()


def test_a_drawing_is_sent_again_if_the_server_does_not_answer(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.clock.install()
    visitor.page.route("**/predict*", lambda route: None, times=1)
    with visitor.page.expect_request("**/predict*"):
        visitor.draw("7")
    visitor.page.clock.run_for(30_000)
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("cannot be reached")
    visitor.page.clock.run_for(3_000)
    visitor.reads("7")


def test_an_unreachable_server_is_announced_once(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.clock.install()
    visitor.page.route("**/predict*", lambda route: route.abort("connectionrefused"))
    visitor.draw("7")
    api.expect(visitor.page.get_by_role("alert")).to_contain_text("cannot be reached")
    visitor.page.evaluate("""() => {
        window.changes = 0;
        const watch = new MutationObserver((all) => (window.changes += all.length));
        for (const element of document.querySelectorAll("#trouble, #words"))
            watch.observe(element, { attributes: true, childList: true });
    }""")
    for _ in range(3):
        with visitor.page.expect_event("requestfailed"):
            visitor.page.clock.run_for(3_000)
    assert visitor.page.evaluate("changes") == 0


def test_the_page_starts_once_the_server_can_be_reached(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.route("**/health", lambda route: route.abort("connectionrefused"), times=1)
    visitor.page.reload()
    api.expect(visitor.page.get_by_role("alert")).to_have_text(
        "The server cannot be reached yet. This page keeps trying."
    )
    api.expect(visitor.page.locator("#model")).to_contain_text("pretrained")
    api.expect(visitor.page.get_by_role("switch")).to_be_visible()
    api.expect(visitor.page.get_by_role("alert")).to_be_hidden()


def test_a_server_error_is_shown_and_not_retried(visit: Callable[..., Visitor]) -> None:
    visitor, requested = visit(), []

    def fail(route: "Route") -> None:
        requested.append(route.request.url)
        route.fulfill(status=500, body="no JSON")

    visitor.page.route("**/predict*", fail)
    visitor.page.clock.install()
    visitor.draw("7")
    api.expect(visitor.page.get_by_role("alert")).to_have_text("The server answered: 500 Internal Server Error")
    visitor.page.clock.run_for(10_000)
    assert len(requested) == 1
    visitor.page.unroute("**/predict*")
    visitor.draw("7")
    api.expect(visitor.page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("width", [320, *(pytest.param(w, marks=pytest.mark.slow) for w in (360, 768))])
def test_nothing_overflows_a_narrow_screen(visit: Callable[..., Visitor], width: int) -> None:
    visitor = visit(viewport={"width": width, "height": 740}, has_touch=True, device_scale_factor=2)
    visitor.page.get_by_role("switch").check()
    visitor.page.evaluate("scrollTo(0, 0)")
    for place, digit in enumerate("1372"):
        visitor.draw(digit, x=0.04 + 0.24 * place, y=0.3, size=0.3)
    visitor.reads("1372")
    api.expect(visitor.page.locator("#layers img").last).to_be_visible()
    sizes = visitor.page.locator("button, .button, fieldset label, #inside label, a").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).flatMap(({ width, height }) => [width, height])"
    )
    assert min(sizes) >= 44
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "lines", "digits"), [(760, 1, 3), (360, 1, 20), (1280, 3, 40), (360, 3, 40)])
def test_a_number_stays_on_its_line_and_on_the_screen(
    visit: Callable[..., Visitor], width: int, lines: int, digits: int
) -> None:
    def repeat(readings: list[dict[str, Any]]) -> None:
        readings[:] = [readings[0] | {"line": line + 1} for line in range(lines) for _ in range(digits)]

    visitor = visit(viewport={"width": width, "height": 740})
    change_readings(visitor, repeat)
    visitor.draw("7")
    visitor.reads("\n".join(lines * ["7" * digits]))
    shown = visitor.number.evaluate("one => one.clientHeight / parseFloat(getComputedStyle(one).lineHeight)")
    assert shown == pytest.approx(lines, abs=0.1)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == width


def test_boxes_of_small_digits_have_no_labels(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    choose(visitor, "a.png", picture("47"))
    api.expect(visitor.page.locator(".box b").first).to_be_visible()
    change_readings(visitor, lambda readings: readings[0].update(box=[100, 100, 110, 120]))
    visitor.page.get_by_label("One digit").check()
    api.expect(visitor.page.locator(".box")).to_have_count(1)
    api.expect(visitor.page.locator(".box b")).to_be_hidden()


def test_the_api_documentation_works_offline(visit: Callable[..., Visitor]) -> None:
    api.expect(visit("docs").page.get_by_text("/predict", exact=True)).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_a_report_is_self_contained_and_fits_the_screen(
    browser: "Browser", report_output: Any, width: int, scheme: Literal["light", "dark"]
) -> None:
    Path("report.html").write_text(report_output.page, encoding="utf-8")
    requested: list[str] = []
    console: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: console.append(message.text))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(Path("report.html").resolve().as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 2)")
    assert page.locator("svg[role=img]").count() == 11
    for link in page.get_by_role("navigation").get_by_role("link").all():
        assert page.locator(link.get_attribute("href") or "").is_visible()
    context.close()
    assert [url for url in requested if not url.startswith("data:")] == [Path("report.html").resolve().as_uri()]
    assert not console
