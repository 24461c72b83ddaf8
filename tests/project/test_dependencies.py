"""Dependencies have licenses that MIT allows, and constraints.txt lists what is installed."""

import importlib.metadata
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import dependencies
from dependencies import incompatible, is_compatible, license_of


@pytest.fixture(scope="module")
def installed() -> dict[str, Distribution]:
    try:
        return dependencies.dependencies()
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(f"not all extras are installed: {error}")


def stating(folder: Path, *fields: str) -> Distribution:
    """A distribution with these metadata fields."""
    folder.joinpath("METADATA").write_text("\n".join(["Metadata-Version: 2.4", "Name: odd", "Version: 1", *fields, ""]))
    return Distribution.at(folder)


def test_every_dependency_has_a_compatible_license(installed: dict[str, Distribution]) -> None:
    assert {"torch", "numpy", "pytest", "fastapi", "optuna"} <= {*installed}
    assert not incompatible(installed.items())


@pytest.mark.parametrize(
    ("fields", "stated", "compatible"),
    [
        ([], "unknown", False),
        (["License-Expression: GPL-3.0-only"], "GPL-3.0-only", False),
        (["License: GPL"], "GPL", False),
        (["Classifier: License :: OSI Approved :: GNU Affero General Public License v3"], None, False),
        (["License-Expression: MIT AND GPL-2.0-or-later"], None, False),
        (["License-Expression: MIT OR GPL-2.0-or-later"], None, True),
        (["License-Expression: (MIT OR GPL-2.0-only) AND GPL-2.0-only"], None, False),
        (["License-Expression: LGPL-3.0-or-later"], None, True),
        (["License: MIT License", "Classifier: License :: OSI Approved :: ISC License (ISCL)"], "MIT", True),
        (
            ["License: Copyright", "        Permission", "Classifier: License :: OSI Approved :: MIT License"],
            "MIT",
            True,
        ),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: ISC License (ISCL)"], "ISC", True),
        (["License: Copyright", "        Permission"], "unknown", False),
    ],
)
def test_an_unknown_or_incompatible_license_is_found(
    fields: list[str], stated: str | None, compatible: bool, tmp_path: Path
) -> None:
    distribution = stating(tmp_path, *fields)
    assert stated in (None, license_of(distribution))
    assert is_compatible(license_of(distribution)) == compatible
    assert incompatible([("odd", distribution)]) == ({} if compatible else {"odd": license_of(distribution)})


def test_the_list_fails_with_the_name_of_an_incompatible_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = stating(tmp_path, "License: BSD-3-Clause")
    monkeypatch.setattr(dependencies, "dependencies", lambda: {"fine": fine, "nvidia-nccl-cu13": fine})
    assert dependencies.main() == 0
    assert "2 distributions: 1 exceptions, 0 not compatible with MIT\n" in capsys.readouterr().out
    tmp_path.joinpath("odd").mkdir()
    monkeypatch.setattr(dependencies, "dependencies", lambda: {"fine": fine, "odd": stating(tmp_path / "odd")})
    assert dependencies.main() == 1
    assert capsys.readouterr().out.endswith("1 not compatible with MIT odd\n")


def test_constraints_list_exactly_what_gets_installed(installed: dict[str, Distribution]) -> None:
    """On the platform that the file was made for, and with its versions: newer ones may need other packages."""
    lines = dependencies.ROOT.joinpath("constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    constrained = {canonicalize_name(name): version for name, version in pairs}
    found = {name: distribution.version for name, distribution in installed.items()}
    others = {name for name in constrained.keys() & found.keys() if constrained[name] != found[name]}
    if others or sys.platform != "linux" or sys.version_info[:2] != (3, 11):
        pytest.skip(f"not Python 3.11 on Linux with the versions of constraints.txt: {', '.join(sorted(others))}")
    assert found == constrained
