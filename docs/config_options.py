"""The reference page of a config's options, from the parser of `mnist-lit fit`. Part of the site, see `site_pages`."""

from argparse import SUPPRESS, Action
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from mnist_lit import MNISTDataModule, MNISTModule
from mnist_lit.cli.config import DEFAULT_EPOCHS, add_options
from mnist_lit.cli.help import TRAINER, default_text, explanation
from mnist_lit.cli.lightning import TRAINER_DEFAULTS

RECIPE = Path(__file__).parents[1] / "configs/quickstart.yaml"


def page() -> str:
    """The page as Markdown."""
    shown = (action for action in _parser()._actions if SUPPRESS not in (action.help, action.default))
    options = {action.dest: action for action in shown}
    run = [name for name in options if "." not in name]
    model, data = ([name for name in options if name.startswith(f"{part}.")] for part in ("model", "data"))
    trainer = [f"trainer.{name}" for name in dict.fromkeys((*TRAINER, *TRAINER_DEFAULTS))]
    changed = " and ".join(", ".join(f"`{name}`" for name in TRAINER_DEFAULTS).rsplit(", ", 1))
    example = RECIPE.read_text(encoding="utf-8")
    example = example[example.index("seed_everything:") :]  # without its header
    return f"""# Config options

A config is one YAML file: the options of the run, and a section each for model, data and trainer. On the command line
`model.lr` is `--model.lr`, which overrides the file. This is the recipe `quickstart`:

```yaml
{example}```

## Run

{_table(options[name] for name in run)}

`seeds` and `seeds_at_once` go on the command line, not into a file.

## Model

{_table(options[name] for name in model)}

`num_classes` comes from the data, `seed` from `seed_everything`.

## Data

{_table(options[name] for name in data)}

`seed` comes from `seed_everything`; `trainer.overfit_batches` turns shuffling off.

## Trainer

Every option of [Lightning's Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html) can be set; these
are the usual ones. This project changes the defaults of {changed}.
Without `max_epochs`, `max_steps` and `max_time` a run has {DEFAULT_EPOCHS} epochs. `callbacks` and `logger`
[add to ours](callbacks.md).

{_table(options[name] for name in trainer)}
"""


def _parser() -> LightningArgumentParser:
    """The options of `mnist-lit fit`, as Lightning's command line builds them."""
    parser = LightningArgumentParser()
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(MNISTModule, "model")
    parser.add_lightning_class_args(MNISTDataModule, "data")
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    add_options(parser, "fit")
    return parser


def _table(actions: Iterable[Action]) -> str:
    rows = ["| Option | Type | Default | Meaning |", "|---|---|---|---|"]
    for action in actions:
        text, default = explanation(action).rstrip("."), default_text(action)
        hint = getattr(action, "_typehint", action.type)  # jsonargparse keeps more than plain classes there
        cells = (f"`{action.dest}`", _name(hint), f"`{default}`" if default else "", f"{text[0].upper()}{text[1:]}.")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _name(hint: Any) -> str:
    """A type in words; what can be chosen is in the option's explanation."""
    if get_origin(hint) is Literal:
        return "choice" if len(get_args(hint)) > 1 else f"`{get_args(hint)[0]}`"
    if get_origin(hint) in (Union, UnionType):
        *names, last = dict.fromkeys(_name(part) for part in get_args(hint))
        return f"{', '.join(names)} or {last}"
    if get_origin(hint) in (list, dict):
        return f"{get_origin(hint).__name__} of {_name(get_args(hint)[-1])}"
    known = (bool, int, float, str) if isinstance(hint, type) else ()
    plain = next((kind for kind in known if issubclass(hint, kind)), hint)
    return "null" if hint is NoneType else str(plain.__name__)
