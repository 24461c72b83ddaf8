"""The page shows the report's numbers, loads nothing, and escapes every name."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_lit.evaluation.report.activations import LayerActivations
from mnist_lit.evaluation.report.page import render_page
from mnist_lit.evaluation.report.scores import run_scores, training_curves
from mnist_lit.runs.results import Predictions
from mnist_lit.system.console import percent

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "x" * 300, "Ω & é", *"56789"]


def render(report: dict[str, Any]) -> str:
    """The page of some numbers, with noise as images."""
    images = np.random.default_rng(0).integers(0, 256, (360, 28, 28), np.uint8)
    layer = LayerActivations("conv1", 32, [0, 1], images[:2])
    return render_page(report, images, np.zeros((32, 3, 3, 3), np.uint8), [layer])


def test_every_number_on_the_page_is_in_the_json(page: str, numbers: dict[str, Any]) -> None:
    shown = re.findall(r'<data[^>]* data-key="([^"]+)" value="([^"]*)">', page)
    assert len(shown) > 400
    for path, value in shown:
        found: Any = numbers
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        assert value == ("" if found is None else str(found)), path


def test_numbers_stand_under_their_headings(page: str, numbers: dict[str, Any]) -> None:
    test = numbers["test"]
    assert f'<strong><data class="number" data-key="test.accuracy" value="{test["accuracy"]}">' in page
    assert f">{percent(test['accuracy'], 360)}</data></strong>" in page
    assert "<h2>Confusion matrix</h2>" in page
    head, rows = re.findall(r'<section id="classes">.*?<thead>(.*?)</thead>.*?<tbody>(.*?)</tbody>', page, re.S)[0]
    assert re.findall(r">([^<>]+)</th>", head)[1:5] == ["images", "precision", "recall", "F1"]
    for scores, row in zip(test["classes"], rows.split("</tr>")[:-1], strict=True):
        fractions = [percent(scores[name], scores["support"]) for name in ("precision", "recall", "f1")]
        assert re.findall(r"<td>.*?>([^<>]+)</data>", row)[:4] == [str(scores["support"]), *fractions]


def test_an_unfinished_run_and_a_temperature_of_one_say_so(page: str, numbers: dict[str, Any]) -> None:
    test, origin = numbers["test"], numbers["origin"]
    other = {**test, "calibration": {**test["calibration"], "temperature": 1.0}}
    html = render({**numbers, "test": other, "origin": {**origin, "finished": False}})
    for words in ("<dt>Unfinished</dt>", "too few mistakes on validation images to fit one"):
        assert (words in html, words in page) == (True, False)


def test_accuracies_that_no_run_has_do_not_stop_the_page(numbers: dict[str, Any]) -> None:
    curves = {**numbers["curves"], "train/acc": [], "val/acc": [[10, 1.5], [20, 7.0]]}
    assert '<section id="training">' in render({**numbers, "curves": curves})


def test_the_matrix_has_a_row_for_each_true_class(numbers: dict[str, Any]) -> None:
    counts = np.arange(100).reshape(10, 10).tolist()
    html = render({**numbers, "test": {**numbers["test"], "confusion": counts}})
    head, rows = re.findall(r'<table class="matrix.*?<thead>(.*?)</thead>.*?<tbody>(.*?)</tbody>', html, re.S)[0]
    assert re.findall(r">([^<>]+)</th>", head) == ["predicted", *numbers["classes"]]
    assert re.findall(r'scope="row" [^>]*>([^<>]+)</th>', rows) == numbers["classes"]
    assert "<span>true</span>" in rows
    shown = [re.findall(r">([^<>]+)</data>", row) for row in rows.split("</tr>")[:-1]]
    assert shown == [[str(count) for count in row] for row in counts]
    assert "Rows are true classes, columns predicted ones." in html


def test_a_cell_of_the_matrix_opens_the_images_of_its_mistakes(page: str, numbers: dict[str, Any]) -> None:
    links = re.findall(r'<a href="#(confused-\d+-\d+)"', page)
    wrong = {(one["true"], one["predicted"]) for one in numbers["test"]["mistakes"]}
    assert links == [f"confused-{true}-{predicted}" for true, predicted in sorted(wrong)]
    for true, predicted in wrong:
        panel = page.partition(f'id="confused-{true}-{predicted}"')[2].partition("</div>")[0]
        mine = [one for one in numbers["test"]["mistakes"] if (one["true"], one["predicted"]) == (true, predicted)]
        assert re.findall(r'alt="Test image (\d+)"', panel) == [str(one["index"]) for one in mine[:12]]


def test_the_title_names_recipe_dataset_and_seeds(page: str, numbers: dict[str, Any]) -> None:
    assert "<h1>quickstart on scikit-learn’s digits</h1>" in page
    group = {**numbers["test"], "n": 2, "mean": 1.0, "sd": 0.0, "ensemble": 1.0, "runs": [], "suspects": []}
    assert "<h1>quickstart on scikit-learn’s digits, 2 seeds</h1>" in render({**numbers, "group": group})
    old = {**numbers["origin"], "recipe": None, "seconds": None, "versions": {}}
    html = render({**numbers, "origin": old})
    assert "<h1>version_0 on scikit-learn’s digits</h1>" in html
    assert "<dt>Machine</dt>" in page
    assert not re.search("<dt>(Machine|Duration|Commit)</dt>", html)


def test_sections_about_one_seed_of_a_group_name_it(page: str, numbers: dict[str, Any]) -> None:
    group = {**numbers["test"], "n": 2, "mean": 1.0, "sd": 0.0, "ensemble": 1.0, "runs": [], "suspects": []}
    html = render({**numbers, "group": group, "origin": {**numbers["origin"], "seed": 7}})
    headings = [re.sub("<[^>]*>", "", heading) for heading in re.findall("<h2>.*?</h2>", html)]
    of_all = ["Test accuracy", "Seeds", "Likely label errors", "Reproducibility"]
    assert [heading for heading in headings if not heading.endswith(" seed 7")] == of_all
    assert {"Training curves seed 7", "Confusion matrix seed 7", "Calibration seed 7"} <= {*headings}
    assert " seed " not in "".join(re.findall("<h2>.*?</h2>", page))


def test_on_a_phone_names_keep_whole_words_and_a_row_has_three_images(numbers: dict[str, Any]) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (chromium := shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("no chromium; `make browser` installs it")
    run = {"run": "version_0/seed_0", **numbers["test"]}
    group = {**numbers["test"], "n": 2, "mean": 1.0, "sd": 0.0, "ensemble": 1.0, "runs": [run], "suspects": []}
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 360, "height": 800})
        shown.set_content(render({**numbers, "group": group}))
        scrolls = "box => box.scrollWidth > box.clientWidth"
        assert shown.locator("#seeds tbody tr").bounding_box()["height"] < 50  # pixels: one line
        assert shown.locator("#seeds .scroll").evaluate(scrolls)
        assert not shown.locator("html").evaluate(scrolls)
        images = [image.bounding_box() for image in shown.locator("#mistakes .cells img").all()[:4]]
        assert [image["y"] == images[0]["y"] for image in images] == [True, True, True, False]
        browser.close()


def test_a_single_point_is_in_the_table_and_is_no_curve(numbers: dict[str, Any]) -> None:
    curves = {**numbers["curves"], "train/acc": [[20.0, 0.25]], "val/acc": [[20.0, 0.75]]}
    html = render({**numbers, "curves": curves})
    assert "<h3>Accuracy <span" not in html.partition('id="confusion"')[0]
    assert 'data-key="curves.val/acc.0.1" value="0.75">75.0 %<' in html


def test_the_page_loads_nothing_and_contains_no_local_path(
    page: str, numbers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert not re.search(r"https?:|<script|url\(|@import|<iframe", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert "default-src 'none'" in page
    for text in (page, json.dumps(numbers)):
        assert str(tmp_path_factory.getbasetemp()) not in text  # the run's command line contains this folder
    assert "mnist-lit fit --config quickstart --trainer.max_epochs 3 --figures false\n" in page
    assert len(page.encode()) < 1_000_000


def test_hostile_names_are_escaped_everywhere(numbers: dict[str, Any]) -> None:
    classes = [{**one, "name": name} for one, name in zip(numbers["test"]["classes"], HOSTILE, strict=True)]
    report = {**numbers, "classes": HOSTILE, "test": {**numbers["test"], "classes": classes}}
    html = render({**report, "name": HOSTILE[0], "files": HOSTILE * 36})
    assert "<script" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    assert "{{ 7 * 7 }}" in html


def test_many_classes_get_a_list_of_confused_pairs_instead_of_a_matrix(numbers: dict[str, Any]) -> None:
    count = 300
    names = [f"class {n}" for n in range(count)]
    labels = [n % count for n in range(360)]
    predicted = [(label + 1) % count if label == 7 else label for label in labels]
    probs = np.full((360, count), 1e-4)
    probs[np.arange(360), predicted] = 1
    test = run_scores(Predictions(list(range(360)), labels, predicted, probs.tolist(), names), None, None)
    assert test["confusion"] is None
    assert test["confused"] == [{"true": 7, "predicted": 8, "count": 2}]
    html = render({**numbers, "classes": names, "test": test, "curves": training_curves(Path("no run"))})
    assert 'class="matrix' not in html
    assert "not calibrated" in html
    assert "Learning rate" not in html
    assert len(html.encode()) < 1_000_000
