"""From a picture to its digits, with the shipped model or a run's."""

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_lit.errors import InputError
from mnist_lit.imaging.find_digits import center_digit
from mnist_lit.inference.reader import DigitReader
from mnist_lit.model import TutorialCNN
from mnist_lit.runs.locate import PRETRAINED_DIR, locate_model


def picture_of_a_one() -> Image.Image:
    image = Image.new("L", (120, 160), 235)
    ImageDraw.Draw(image).line([(70, 20), (60, 140)], fill=20, width=9)
    return image


def constant_model(probabilities: NDArray[np.float32], outlier: float) -> Any:
    """A model that gives every image the same probabilities (C,) and outlier score."""
    return lambda images: (np.tile(probabilities, (len(images), 1)), np.full(len(images), outlier, np.float32))


@pytest.fixture(scope="module")
def reader() -> DigitReader:
    return DigitReader.load("pretrained")


def test_a_picture_may_be_a_path_bytes_an_image_or_an_array(reader: DigitReader) -> None:
    image = picture_of_a_one()
    image.save("one.png")
    for picture in ("one.png", Path("one.png"), Path("one.png").read_bytes(), image, np.asarray(image)):
        found = reader.read(picture)
        assert (found.digit, found.status, found.message) == ("1", "ok", "")
        assert found.probability == max(found.probabilities) > 0.9
        assert sum(found.probabilities) == pytest.approx(1)
        assert found.image.shape == (28, 28)
        left, top, right, bottom = found.box
        assert 40 < left < right < 90
        assert 10 < top < bottom < 150


def test_a_reading_is_printed_without_its_image(reader: DigitReader) -> None:
    text = repr(reader.read(picture_of_a_one()))
    assert text.startswith("Reading(digit='1', probability=0.9")
    assert text.endswith(", line=1, column=1)")
    assert "image" not in text


def test_readings_are_equal_if_everything_is_including_the_image(reader: DigitReader) -> None:
    one, same = (reader.read(picture_of_a_one()) for _ in range(2))
    assert one == same
    assert (one != same) is False
    assert {one, same} == {one}
    for other in (one._replace(column=2), one._replace(image=255 - one.image), tuple(one), "1"):
        assert one != other
        assert (one == other) is False


def test_blank_paper_is_rejected(reader: DigitReader) -> None:
    found = reader.read(Image.new("L", (50, 40), 240))
    assert (found.digit, found.status, found.message) == ("", "rejected", "no writing found")
    assert found.box == (0, 0, 50, 40)
    assert reader.read_many(Image.new("L", (50, 40), 240)) == []


def test_the_threshold_can_be_set() -> None:
    for threshold, status in ((0.0, "rejected"), (1.0, "ok")):
        assert DigitReader.load("pretrained", threshold=threshold).read(picture_of_a_one()).status == status
    with pytest.raises(InputError, match="expected 0"):
        DigitReader.load("pretrained", threshold=1.5)
    with pytest.raises(InputError, match=r"^threshold: expected 0 \(strictest\) … 1 \(rejects nothing\), got 0\.4$"):
        DigitReader.load("pretrained", threshold="0.4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"got True$"):
        DigitReader.load("pretrained", threshold=True)
    assert DigitReader.load("pretrained", threshold=np.float32(0.5)).threshold == 0.5  # type: ignore[arg-type]


def test_several_digits_are_read_in_reading_order(reader: DigitReader) -> None:
    image = Image.new("L", (300, 160), 235)
    pen = ImageDraw.Draw(image)
    pen.line([(50, 20), (45, 140)], fill=20, width=9)
    pen.line([(110, 25), (180, 25), (140, 140)], fill=20, width=9, joint="curve")
    pen.line([(215, 25), (285, 25), (245, 140)], fill=20, width=9, joint="curve")
    readings = reader.read_many(image)
    assert "".join(reading.digit for reading in readings) == "177"
    assert [reading.box[0] for reading in readings] == sorted(reading.box[0] for reading in readings)


def test_a_picture_of_several_digits_says_so(reader: DigitReader) -> None:
    image = Image.new("L", (300, 160), 235)
    for left in (50, 140, 240):
        ImageDraw.Draw(image).line([(left, 20), (left - 5, 140)], fill=20, width=9)
    found = reader.read(image)
    assert (found.digit, found.status, found.message) == ("1", "ok", "3 digits found")
    rejected = DigitReader.load("pretrained", threshold=0).read(image)
    assert (rejected.status, rejected.message) == ("rejected", "not a digit; 3 characters found")
    assert [(one.digit, one.line, one.column, one.message) for one in reader.read_many(image)] == [
        ("1", 1, 1, ""),
        ("1", 1, 2, ""),
        ("1", 1, 3, ""),
    ]


def test_a_rejected_reading_claims_no_certainty(reader: DigitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    certain = np.eye(10, dtype=np.float32)[3]
    for outlier, probability, status in ((0.2, 1.0, "ok"), (0.75, 0.25 + 0.075, "rejected"), (1.0, 0.1, "rejected")):
        monkeypatch.setattr(reader, "model", constant_model(certain, outlier))
        found = reader.read(picture_of_a_one())
        assert (found.digit if outlier < 1 else "3", found.status) == ("3", status)
        assert found.probability == pytest.approx(probability)
        assert sum(found.probabilities) == pytest.approx(1)


def test_a_score_at_the_threshold_is_accepted(reader: DigitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    certain = np.eye(10, dtype=np.float32)[3]
    chosen = DigitReader(reader.model, reader.path, 0.25)
    for outlier, status in ((0.25, "ok"), (np.nextafter(0.25, 1, dtype=np.float32), "rejected")):
        monkeypatch.setattr(chosen, "model", constant_model(certain, outlier))
        assert chosen.read(picture_of_a_one()).status == status


@pytest.mark.parametrize(("threshold", "statuses"), [(0.5, {"rejected"}), (1, {"ok"})])
def test_a_letter_that_looks_like_a_digit_is_rejected_in_its_word(
    threshold: float, statuses: set[str], reader: DigitReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless nothing is rejected."""
    word = Image.new("L", (300, 120), 235)  # four letters unlike a digit, and three like a 1
    draw = ImageDraw.Draw(word)
    for left in (20, 98, 176, 254):
        draw.rectangle((left, 30, left + 40, 90), outline=20, width=7)
        draw.line([(left + 59, 25), (left + 57, 95)], fill=20, width=7)

    def model(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        wide = images.any(axis=1).sum(axis=1) > 12
        return np.eye(10, dtype=np.float32)[np.where(wide, 0, 1)], np.where(wide, np.float32(0.9), np.float32(0.0))

    chosen = DigitReader(reader.model, reader.path, threshold)
    monkeypatch.setattr(chosen, "model", model)
    assert chosen.read(word.crop((66, 0, 94, 120))).status == "ok"  # the second letter
    assert {reading.status for reading in chosen.read_many(word)} == statuses


def test_a_doubtful_digit_is_read_rotated_unless_it_is_on_a_page(reader: DigitReader) -> None:
    two = Image.new("L", (200, 200), 235)
    pen = ImageDraw.Draw(two)
    pen.arc((60, 30, 145, 115), 180, 20, 20, 11)
    pen.line([(140, 90), (60, 165), (150, 165)], 20, 11, "curve")
    tilted = two.rotate(-35, Image.Resampling.BICUBIC, expand=True, fillcolor=235)
    alone, (on_page,) = reader.read(tilted), reader.read_many(tilted)
    assert (alone.digit, alone.status, on_page.status) == ("2", "ok", "rejected")
    assert np.allclose(alone.box, on_page.box, atol=2)
    assert not np.array_equal(alone.image, on_page.image)  # it is what the network was shown


@pytest.mark.parametrize(
    ("upright", "rotated", "digit"),
    [
        (0.49, (0.995, 0.5), "1"),
        (0.49, (0.992, 0.995), "2"),
        (0.49, (0.985, 0.5), "0"),  # not sure
        (0.51, (0.995, 0.5), "0"),  # not doubtful
    ],
)
def test_the_surest_turn_replaces_a_doubtful_reading(
    upright: float, rotated: tuple[float, float], digit: str, reader: DigitReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.zeros((3, 10), np.float32)
    rows[[0, 1, 2], [0, 1, 2]] = upright, *rotated
    parts = iter((rows[:1], rows[1:]))
    monkeypatch.setattr(reader, "model", lambda images: (next(parts), np.zeros(len(images), np.float32)))
    assert reader.read(picture_of_a_one()).digit == digit


def test_an_image_in_mnists_format_is_never_rotated(reader: DigitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    unsure = np.full((1, 10), 0.1, np.float32)
    parts = iter([(unsure, np.zeros(1, np.float32))])
    monkeypatch.setattr(reader, "model", lambda _: next(parts))  # once
    image = center_digit(picture_of_a_one())
    assert np.array_equal(reader.read(image).image, image)


def test_arrays_of_another_dtype_are_refused(reader: DigitReader) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 28, 28\), got float64 \(2, 28, 28\)"):
        reader.classify(np.zeros((2, 28, 28)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^batch_size: expected 1 or more, got 0$"):
        reader.classify(np.zeros((2, 28, 28), np.uint8), batch_size=0)


def test_batches_give_the_same_scores(reader: DigitReader) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
    expected = reader.classify(images)
    for batch_size in (1, 3, 7, 8):
        for actual, wanted in zip(reader.classify(images, batch_size), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, atol=1e-6)
    assert [array.shape for array in reader.classify(images[:0], 3)] == [(0, 10), (0,)]


def test_the_newest_run_is_the_default_model(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_model(None).parent.name == "pretrained"
    with pytest.raises(InputError, match="nothing was trained"):
        locate_model("latest")
    monkeypatch.chdir(trained.parents[1])
    assert locate_model(None) == locate_model("latest") == Path("lightning_logs/version_0/checkpoints/best.ckpt")
    assert locate_model("pretrained").parent.name == "pretrained"
    assert locate_model(trained) == trained / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("model", ["pretrained", PRETRAINED_DIR / "model.ckpt"])
def test_a_reader_can_be_copied_and_sent_to_another_process(model: Any) -> None:
    reader = DigitReader.load(model, threshold=0.25)
    expected = reader.read(picture_of_a_one())
    for twin in (copy.deepcopy(reader), pickle.loads(pickle.dumps(reader))):
        assert repr(twin) == repr(reader)
        assert twin.read(picture_of_a_one()).probabilities == expected.probabilities


def test_a_network_must_be_an_instance_and_fit_the_model(reader: DigitReader) -> None:
    with pytest.raises(InputError, match=r"network: expected an instance, such as TutorialCNN\(\), got the class"):
        DigitReader.load(PRETRAINED_DIR / "model.ckpt", network=TutorialCNN)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"model\.onnx was exported with its network; leave network or --model.network out"
    ):
        DigitReader.load("pretrained", network=TutorialCNN())


def test_a_missing_model_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no model at missing"):
        DigitReader.load("missing")


def test_a_model_trained_on_small_digits_recommends_another_for_photos(trained: Path) -> None:
    assert "--model pretrained" in DigitReader.load(trained).note
    assert DigitReader.load("pretrained").note == ""
    assert DigitReader.load("pretrained").name == "pretrained/model.onnx"


def test_a_misspelled_model_name_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="no model at pretraned; did you mean pretrained"):
        locate_model("pretraned")


def test_outputs_that_are_not_finite_are_an_error(reader: DigitReader, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = DigitReader(reader.model, reader.path)

    def model(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.full((len(images), 10), np.nan, np.float32), np.zeros(len(images), np.float32)

    monkeypatch.setattr(broken, "model", model)
    with pytest.raises(InputError, match="not finite"):
        broken.classify(np.zeros((3, 28, 28), np.uint8), 2)


def test_what_is_no_model_is_refused_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mnist_lit.inference.checkpoint_model", None)
    Path("seven.png").write_bytes(b"a picture")
    with pytest.raises(InputError, match=r"seven\.png is neither an exported model \(\.onnx\) nor a checkpoint"):
        DigitReader.load("seven.png")
