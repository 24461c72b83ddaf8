import json
from pathlib import Path

import pytest
import yaml

from mnist_lit.system.yaml_file import MAX_BYTES, MAX_DEPTH, load_yaml, read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"no aliases, got \*a0"),
        ("a: &a [*a]", "no aliases"),
        ("[" * 20_000, f"at most {MAX_DEPTH} sections|maximum nesting depth"),  # libyaml 0.2.6 has a limit too
        ("\n".join(" " * n + "a:" for n in range(200)), f"at most {MAX_DEPTH} sections"),
        ("a: " + "9" * 5000, "4300"),
        ("a: 2026-02-31", "day"),
        ("a: " + "x" * MAX_BYTES, "at most 64 KiB"),
        (f"a: {json.dumps(LAUGHS)}", "no aliases"),
        (f"a: [b, {json.dumps('[' * 100)}]", f"at most {MAX_DEPTH} sections"),
        ("a: [", "expected"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
    ids=["aliases", "cycle", "flow", "block", "number", "date", "long", "string", "deep string", "invalid", "code"],
)
def test_what_could_take_forever_or_run_code_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(yaml.YAMLError, match=message):
        load_yaml(text)
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml(path)


def test_a_config_is_read() -> None:
    assert load_yaml("model: {lr: 1}\ndata:\n  classes: '3,7'\n") == {"model": {"lr": 1}, "data": {"classes": "3,7"}}
    assert load_yaml("a: 'no YAML: [, and much longer than that'") == {"a": "no YAML: [, and much longer than that"}
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert str(load_yaml(deep)) == deep
