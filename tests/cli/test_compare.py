"""Two runs or groups differ or cannot be distinguished, or comparing them is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
LOGS = Path("lightning_logs")
PROBS = [",".join(str(int(n == answer)) for n in range(10)) for answer in range(10)]


def write(run: Path, wrong: Sequence[int], images: int = 1000, shift: int = 0, names: str = "") -> None:
    """Write a tested run with these images wrong. names: of the pictures' files."""
    run.joinpath("checkpoints").mkdir(parents=True)
    run.joinpath("checkpoints/best.ckpt").touch()
    run.joinpath("finished").touch()
    answers = ((i + shift + (i in {*wrong})) % 10 for i in range(images))
    rows = (f"{i},{(i + shift) % 10},{answer},{PROBS[answer]}" for i, answer in enumerate(answers))
    head = "index,label,predicted," + ",".join(f"prob_{n}" for n in range(10))
    lines = [f"{line},{names}{n}" for n, line in enumerate(rows)] if names else [*rows]
    run.joinpath("predictions.csv").write_text("\n".join([head + ",file" * bool(names), *lines]))


def test_two_runs_that_differ(cli: Cli) -> None:
    write(LOGS / "version_0", range(30))
    write(LOGS / "version_1", range(25, 35))
    code, out, err = cli("compare", "version_0", "version_1")
    assert (code, err) == (0, "")
    assert "images that only A classified correctly: 5; only B: 25 (exact McNemar test)" in out
    assert "B - A: +2.00 points" in out
    assert out.splitlines()[-1] == "B is better than A: two equally good networks would rarely differ this much."
    assert "\nA is better than B: " in cli("compare", "version_1", "version_0")[1]


def test_two_runs_that_cannot_be_distinguished(cli: Cli) -> None:
    write(LOGS / "version_0", range(30))
    write(LOGS / "version_1", range(5, 34))
    out = cli("compare", "lightning_logs/version_0", "version_1")[1]
    assert out.splitlines()[-1].startswith("No significant difference: ")
    assert "is better" not in out


def test_pictures_are_the_same_if_their_files_have_the_same_names(cli: Cli) -> None:
    write(LOGS / "version_0", [1], names="a")
    write(LOGS / "version_1", [2], names="a")
    write(LOGS / "version_2", [2], names="b")
    assert cli("compare", "version_0", "version_1")[0] == 0
    write(LOGS / "version_3", [2], names="a")
    table = LOGS / "version_3/predictions.csv"
    table.write_text(table.read_text().replace("prob_9", "prob_nine"))
    for other in ("version_2", "version_3"):
        code, _, err = cli("compare", "version_0", other)
        assert code == 2
        assert f"{other} were not tested on the same images" in err


@pytest.mark.parametrize(
    ("wrong", "conclusion"), [(30, "nor do they differ"), (20, "so there is no variation to test")]
)
def test_groups_that_do_not_vary_have_no_interval(cli: Cli, wrong: int, conclusion: str) -> None:
    for seed in range(2):
        write(LOGS / f"version_0/seed_{seed}", range(30))
        write(LOGS / f"version_1/seed_{seed}", range(wrong))
    code, out, err = cli("compare", "version_0", "version_1")
    assert (code, err) == (0, "")
    assert f"Neither group varies over its seeds, {conclusion}" in out
    assert "nan" not in out


def test_groups_are_compared_over_their_seeds(cli: Cli) -> None:
    for seed, wrong in enumerate((30, 31, 29)):
        write(LOGS / f"version_0/seed_{seed}", range(wrong))
        write(LOGS / f"version_1/seed_{seed}", range(wrong - 10))
        write(LOGS / f"version_2/seed_{seed}", range(wrong + seed - 1))
    out = cli("compare", "version_0", "version_1")[1]
    assert "97.00 ± 0.10 %  (n = 3" in out
    assert "B - A: +1.00 points" in out
    assert "\nB is better than A: " in out
    assert "\nNo significant difference: " in cli("compare", "version_0", "version_2")[1]


def test_incomparable_runs_are_refused(cli: Cli) -> None:
    write(LOGS / "version_0", [])
    write(LOGS / "version_1", [], shift=1)
    write(LOGS / "version_2/seed_0", [])
    write(LOGS / "version_2/seed_1", [])
    write(LOGS / "version_3", [])
    LOGS.joinpath("version_3/predictions.csv").unlink()
    for second, message in (
        ("version_1", "lightning_logs/version_0 and lightning_logs/version_1 were not tested on the same images"),
        ("version_1", "and `mnist-lit test lightning_logs/version_1` again"),
        ("version_2", "a single run has no spread over seeds"),
        ("version_3", "run `mnist-lit test lightning_logs/version_3` first"),
        ("version_9", "no run with a checkpoint"),
        ("", "at an empty name; `mnist-lit runs` lists the runs"),
        ("another", "at another; `mnist-lit runs` lists the runs"),
        ("vresion_1", "did you mean version_1?"),
        ("version_0", "got lightning_logs/version_0 twice"),
    ):
        code, _, err = cli("compare", "version_0", second)
        assert (code, message in err) == (2, True), err


def test_a_group_and_one_of_its_runs_are_refused_before_a_test_is_asked_for(cli: Cli) -> None:
    for seed in (0, 1):
        write(run := LOGS / f"version_0/seed_{seed}", [])
        run.joinpath("predictions.csv").unlink()
    code, _, err = cli("compare", "version_0", "version_0/seed_0")
    assert (code, err.startswith("mnist-lit: a single run has no spread over seeds: ")) == (2, True), err


def test_a_difference_is_significant_below_five_percent(cli: Cli) -> None:
    for number, wrong in enumerate((range(20), range(20, 30), range(17), range(17, 22))):
        write(LOGS / f"version_{number}", wrong)
    assert "No significant difference" in cli("compare", "version_0", "version_1")[1]  # p = 0.099
    assert "B is better" in cli("compare", "version_2", "version_3")[1]  # p = 0.017
