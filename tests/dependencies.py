"""What the project with all extras installs, and under which licenses: `make licenses` prints it.

Metadata state the license of a package's own code. A wheel may contain more, which no metadata say: pillow-heif's does.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
UNKNOWN = "unknown"

# MPL and LGPL ask for nothing but the source of the library itself, which we neither contain nor change.
COMPATIBLE = re.compile(
    r"MIT(-0|-CMU)?|0BSD|BSD(-[23]-Clause)?|ISC|HPND|Zlib|BSL-1\.0|CC0-1\.0|Unlicense|P(SF|ython)-2\.0"
    r"|Apache-2\.0( WITH LLVM-exception)?|MPL-2\.0|LGPL-(2\.1|3\.0)(-only|-or-later)?"
)
SPDX = {  # how metadata without SPDX identifiers name some licenses
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD",
    "ISC license": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
NVIDIA = "NVIDIA's terms: part of torch's CUDA build for Linux; the CPU build comes without it"
EXCEPTIONS = {  # start of a name → its terms, and why it may be installed all the same
    "cuda-toolkit": NVIDIA,
    "nvidia-": NVIDIA,
    "pillow-heif": "BSD-3-Clause, its wheels GPL-2.0 (x265): optional, imported to open HEIC pictures only",
}


def dependencies() -> dict[str, Distribution]:
    """Every distribution that `.[all]` needs in this environment, by name. Raises PackageNotFoundError if one is
    missing; extras of extras count too."""
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    own = [line for extra in everything.extras for line in extras[extra] if not line.startswith(project["name"])]
    waiting = [Requirement(line) for line in [*project["dependencies"], *own]]
    seen: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found[name] = importlib.metadata.distribution(name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            needs = map(Requirement, found[name].requires or [])
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return dict(sorted(found.items()))


def license_of(distribution: Distribution) -> str:
    """A distribution's license as an SPDX expression if its metadata allow that; `UNKNOWN` if they state none."""
    metadata = distribution.metadata
    stated: str = (metadata.get_all("License-Expression") or metadata.get_all("License") or [""])[0]
    if stated in ("", "UNKNOWN") or "\n" in stated:  # the last: the whole text of the license
        classifiers = [name for name in metadata.get_all("Classifier") or [] if name.startswith("License ::")]
        kinds = [name.rpartition(" :: ")[2] for name in classifiers]
        return " AND ".join(SPDX.get(kind, kind) for kind in kinds) or UNKNOWN
    return SPDX.get(stated, stated)


def is_compatible(expression: str) -> bool:
    """Whether software under the MIT license may depend on a library under these terms. AND binds closer than OR."""
    return any(
        all(COMPATIBLE.fullmatch(part.strip()) for part in choice.split(" AND ")) for choice in expression.split(" OR ")
    )


def exception(name: str) -> str | None:
    """Why a distribution may be installed although its terms are stricter than MIT's; None for any other."""
    return next((reason for start, reason in EXCEPTIONS.items() if name.startswith(start)), None)


def incompatible(distributions: Iterable[tuple[str, Distribution]]) -> dict[str, str]:
    """Those whose license is unknown or not compatible, and no exception: name → license."""
    licenses = {name: license_of(distribution) for name, distribution in distributions}
    return {name: terms for name, terms in licenses.items() if not is_compatible(terms) and not exception(name)}


def main() -> int:
    """Print the list; 1 if there is an incompatible license."""
    found = dependencies()
    for name, distribution in found.items():
        print(f"{name:28}{distribution.version:20}{exception(name) or license_of(distribution)}")
    wrong, excepted = incompatible(found.items()), sum(exception(name) is not None for name in found)
    print(f"{len(found)} distributions: {excepted} exceptions, {len(wrong)} not compatible with MIT", *wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
