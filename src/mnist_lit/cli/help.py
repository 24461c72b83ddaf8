"""`--help` of `fit`, `validate` and `test`: the options people set first, in one column, and their explanations.

jsonargparse's own help of these commands has more than a thousand lines.
"""

import re
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterable

from lightning.pytorch.cli import LightningArgumentParser

from mnist_lit.metrics import monitored_names
from mnist_lit.runs.locate import MODEL_NAMES
from mnist_lit.runs.recipes import recipe_names

COLUMN, WIDTH = 36, 110
TRAINER = (  # shown without `--help all`
    *("max_epochs", "max_steps", "max_time", "accelerator", "devices", "num_nodes", "strategy", "precision"),
    *("callbacks", "logger", "profiler", "log_every_n_steps", "val_check_interval", "check_val_every_n_epoch"),
    *("limit_train_batches", "limit_val_batches", "overfit_batches", "fast_dev_run", "accumulate_grad_batches"),
    *("gradient_clip_val", "deterministic", "default_root_dir", "enable_progress_bar"),
)
EVALUATION = (
    *("config", "model.network", "data.data_dir", "data.batch_size", "trainer.accelerator", "trainer.devices"),
    *("trainer.precision", "trainer.callbacks", "trainer.default_root_dir", "trainer.enable_progress_bar"),
)
SCORES = "Scores that callbacks such as EarlyStopping and ModelCheckpoint can monitor, class_acc for each label:\n  "
SCORES += ", ".join(monitored_names(1, has_validation=True))
MODEL = f"a checkpoint, a run such as version_3, {MODEL_NAMES} (default: the newest run's best)"
LONG_OPTION = re.compile(r"--\w")  # unlike a link's `data.num_classes --> model.num_classes`
OWN = {  # instead of what Lightning and jsonargparse say
    "config": "a recipe's name, or a YAML file with options; several are merged in order",
    "print_config": "print the complete configuration and exit",
    "seed_everything": "seed of the initial weights, the order of the images, augmentation and dropout",
    "ckpt_path": "resume a checkpoint in a new run folder: a path, a run such as version_3 (its best), latest or last",
}
ROLE = re.compile(r":\w+:`~?([^`<]*?)(?:\s*<[^`]*>)?`")  # Sphinx's cross-references


def format_help(parser: LightningArgumentParser, command: str, *, everything: bool) -> str:
    """The help of a command. everything: also the options that few people need."""
    visible = (action for action in parser._actions if action.help != SUPPRESS)
    options = {action.dest: action for action in visible if any(map(LONG_OPTION.match, action.option_strings))}
    if command == "fit":
        lines = [f"usage: mnist-lit fit --config NAME [options]    recipes: {', '.join(recipe_names())}"]
        trainer = [name for name in options if name.startswith("trainer.")]
        common = trainer if everything else [f"trainer.{name}" for name in TRAINER]
        own = [name for name in options if "." not in name and name not in ("help", "trainer", "model", "data")]
        sections = {"Run": own}
        sections |= {part.capitalize(): [n for n in options if n.startswith(f"{part}.")] for part in ("model", "data")}
        sections["Lightning's Trainer"] = common
    else:
        lines = [f"usage: mnist-lit {command} [MODEL] [options]", "", *_entry("--model NAME, --ckpt_path NAME", MODEL)]
        split = "test" if command == "test" else "val"
        names = [*options] if everything else [*EVALUATION, f"trainer.limit_{split}_batches"]
        sections = {"Options": [name for name in names if name != "ckpt_path"]}
    for title, names in sections.items():
        lines += ["", f"{title}:", *_entries(options[name] for name in names if name in options)]
    lines += ["", SCORES] if command == "fit" else []
    rest = "" if everything else f"`mnist-lit {command} --help all` lists all options. "
    return "\n".join([*lines, "", f"{rest}Options can also be set in a YAML file: --config FILE.", ""])


def explanation(action: Action) -> str:
    """What an option means, without its type and default."""
    text = ROLE.sub(r"\1", OWN.get(action.dest) or action.help or "")
    text = " ".join(text.replace("%%", "%").replace("``", "`").split())
    text = re.sub(r" ?\(type: .*|Default: .*", "", text)
    if action.dest.startswith("trainer."):
        text = re.split(r"(?<=[a-z`)])\. ", text)[0]
    return text.strip().removesuffix(".")


def default_text(action: Action) -> str:
    """An option's default as it stands in a config; empty if it has none."""
    default = action.default
    if default in (None, SUPPRESS, ""):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _entries(actions: Iterable[Action]) -> list[str]:
    lines = []
    for action in actions:
        if action.dest.endswith(".help"):
            continue
        text = explanation(action)
        if default := default_text(action):
            text += f" (default: {default})"
        lines += _entry(f"{next(filter(LONG_OPTION.match, action.option_strings)).rstrip('+')} {_values(action)}", text)
    return lines


def _values(action: Action) -> str:
    if action.choices:
        return "|".join(map(str, action.choices))
    shown = str(action.metavar or action.dest.rpartition(".")[2].upper())
    shown = shown.removeprefix("\b")  # by which jsonargparse removes the space before `[=flags]`
    return "" if shown.startswith("[") else shown.strip("{}").replace(",", "|")


def _entry(option: str, text: str) -> list[str]:
    """An option and its explanation; a long option takes a line of its own."""
    lines = textwrap.wrap(text, WIDTH - COLUMN) or [""]
    first = [f"  {option}"] if len(option) > COLUMN - 4 else [f"  {option:<{COLUMN - 4}}  {lines.pop(0)}".rstrip()]
    return [*first, *(" " * COLUMN + line for line in lines)]
