"""Explain wrong names and options in one line, with the nearest valid one. The standard library only."""

import keyword
import re
import sys
from collections.abc import Iterable
from contextlib import suppress

# How argparse and jsonargparse word their errors.
UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (-*)([^\s=]+)|does not accept option '([\w.]+)'")
PARSER_KEY = re.compile(r'Parser key "(.*?)":')
WRONG_VALUE = re.compile(r'Parser key "(.*)":(?s:.*)(?:Got|Given) value: (.*)')
EXPECTED = re.compile(r"Expected a (.+?)(?:\.? Got value|\n|$)")
# A class that was found and refused its settings: the class in its value, and the reason in the list of errors.
CLASS_PATH = re.compile(r"class_path='(?:[\w.]+\.)?(\w+)'")
CLASS_REASON = re.compile(
    r"Problem with given class_path '(?:[\w.]+\.)?(\w+)':\n\s*(?!.*Expected a|Parser key)(\S.*(?:MORE)*)"
    r"|Errors:\n\s*- (?!Expected a|Problem|Parser key|Not a valid)(\S.*(?:MORE)*)".replace(
        "MORE", r"\n(?!\s*(?:- |Given value|Problem)).*"
    )
)
NETWORK = "<class 'torch.nn.modules.module.Module'>"  # only model.network takes one
GIVEN_CLASS = re.compile(r"given class_path '([\w.]+)'")
NOT_ACCEPTED = re.compile(r"Option '(\w+)' is not accepted")
NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
OWN_CLASS = {
    "model.class_path": "; a LightningModule of your own is trained in Python, see docs/own-module.md",
    "data.class_path": "; a data module or loaders of your own are used in Python, see docs/lightning.md",
}
SCRIPT = re.compile(r"Invalid content in sub-config file (\S+\.py):")
CLASS_NAME = re.compile(r"Expected a dot import path string: (\w+)$", re.MULTILINE)
NESTED = re.compile(r"NestedArg\(key='(.*?)', val='?(.*?)'?\)")
TYPE_NAMES = {"float": "a number", "int": "a whole number", "bool": "true or false", "NoneType": ""}
REWORDED = {
    "argument -[a-z]/--": "argument --",
    r"argument (\S+): invalid float value: '(.*)'": r"\1: expected a number, got \2",
    r"argument (\S+): invalid int value: '(.*)'": r"\1: expected a whole number, got \2",
    r"argument (\S+): expected (?:one|at least one) argument": r"\1: expected a value, got none",
    r"argument (\S+): ignored explicit argument '(.*)'": r"\1: expected no value, got \2",
    "the following arguments are required: (.+)": r"missing argument: \1; --help lists what the command takes",
    r'(?s:Parser key "model":\s+Unable to load config.*- Parser key.*)': "model: expected options "
    "such as --model.lr 0.1; a network of your own is --model.network package.Class",
    r'(?s:Parser key "data":\s+Unable to load config.*- Parser key.*)': "data: expected options "
    "such as --data.batch_size 64; your own pictures are --data.dataset folder --data.data_dir FOLDER",
    r"Call to compute_fn of link .* failed: ": "",
    r"argument \w+\((\w+)\) --> (\S+): .* is not callable": r"\2: follows \1; set that instead",
    r'Linked "(\S+)" must be given via "data\.num_classes"\.?': r"\1: follows the data; leave it out",
    r'Linked "(\S+)" must be given via "(\S+)"\.?': r"\1: follows \2; set that instead",
    "'MNISTModule' object has no attribute 'backbone'": "BackboneFinetuning: needs a module with a `backbone`",
    r"You restored a checkpoint with current_epoch=\d+, but you have set Trainer\(max_epochs=(\d+)\)\.": "the "
    r"checkpoint has been trained for more epochs than trainer.max_epochs, which is \1; set it higher",
    r"No supported gpu backend found!|`(?:CUDA|MPS)Accelerator` can not run on your system.*": "trainer.accelerator: "
    "torch finds no GPU here; leave the option out, or use cpu",
}
ALIASES = {"learning_rate": "lr", "epochs": "max_epochs", "seed": "seed_everything", "gpus": "devices"}
ALIASES |= {"train": "fit", "evaluate": "test", "eval": "test", "download": "data", "list": "runs", "read": "predict"}


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`; did you mean X?` for the closest valid name; "" if none is close. X is in the same section, unless
    only another section has this very name.

    >>> did_you_mean("model.lrr", ["model.lr", "data.val_size"])
    '; did you mean model.lr?'
    >>> did_you_mean("data.learning_rate", ["model.init", "model.lr", "data.val_size"])
    '; did you mean model.lr?'
    >>> did_you_mean("ckpt", ["ckpt_path", "seed_everything"])
    '; did you mean ckpt_path?'
    >>> did_you_mean("trian", ["fit", "test"])  # almost `train`, another word for `fit`
    '; did you mean fit?'
    >>> did_you_mean("data.num_workers", ["trainer.num_nodes", "data.val_size"])
    ''
    """
    import difflib  # needed only after a mistake

    leaves = {full.rpartition(".")[2]: full for full in reversed(list(valid))}
    section, _, leaf = name.rpartition(".")
    leaves |= {alias: leaves[known] for alias, known in ALIASES.items() if known in leaves}
    if leaf not in leaves and any(full.startswith(f"{section}.") for full in leaves.values()):
        leaves = {near: full for near, full in leaves.items() if full.startswith(f"{section}.")}
    matches = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.65)
    matches = matches or [known for known in leaves if len(leaf) > 3 and known.startswith(leaf)]
    return f"; did you mean {leaves[matches[0]]}?" if matches else ""


def explain_error(message: str, valid: Iterable[str]) -> str:
    """An error of argparse, jsonargparse or Lightning in one line, with the nearest of the valid options and classes.

    >>> explain_error("Subcommand 'fit' does not accept option 'data.batchsize'", ["data.batch_size"])
    'unknown option data.batchsize; did you mean data.batch_size?'
    >>> explain_error("unrecognized arguments: --treshold 0.5", ["threshold"])
    'unknown option --treshold; did you mean --threshold?'
    >>> explain_error('Parser key "model.lr":\\n  Expected a <class \\'float\\'>. Got value: x', [])
    'model.lr: expected a number, got x'
    >>> explain_error('Parser key "a.b":\\n  Expected a typing.Literal[\\'sgd\\', \\'adamw\\']. Got value: adam', [])
    'a.b: expected sgd or adamw, got adam; did you mean adamw?'
    >>> explain_error('Parser key "a.b":\\n  Not a subclass. Got value: EarlyStoping', ["a.b", "EarlyStopping"])
    'a.b: cannot take EarlyStoping; did you mean EarlyStopping?'
    >>> explain_error('Parser key "a.b":\\n  Not a subclass. Got value: MyNet', [])
    'a.b: cannot take MyNet; name a class of your own with its module, as in my_package.MyNet'
    >>> explain_error('Parser key "a.b":\\n  Not a subclass. Got value: None', [])
    'a.b: cannot take None'
    """
    if unknown := UNKNOWN_OPTION.search(message):
        dashes, name = unknown[1] or "", unknown[2] or unknown[3]
        if unknown[2] and not dashes:
            return f"unexpected argument {name}; --help lists what the command takes"
        hint = OWN_CLASS.get(name) or did_you_mean(name, valid).replace("mean ", "mean --" if dashes else "mean ")
        return f"unknown option {dashes}{name}{hint}"
    option = PARSER_KEY.match(message)
    if script := SCRIPT.search(message):
        return (
            f"{option[1] if option else 'option'}: expected a class, such as my_package.MyNet, got the file {script[1]}"
        )
    if reason := next((found for found in CLASS_REASON.finditer(message) if found[1] != "Callback"), None):
        return _explain_refusal(message, reason, option)
    if wrong := WRONG_VALUE.match(message):
        return _explain_value(message, wrong, valid)
    for pattern, words in REWORDED.items():
        message = re.sub(pattern, words, message)
    message = " ".join(message.split())
    return f"{message} nothing" if message.endswith(", got") else message


def _explain_refusal(message: str, reason: re.Match[str], option: re.Match[str] | None) -> str:
    """Why a class that was found refused its settings."""
    name = reason[1] or next(iter(CLASS_PATH.findall(message)), option[1] if option else "")
    key = option[1] if option else "model.network" if NETWORK in message else name
    prefix = f"{key}: " if key != name else ""
    text = " ".join((reason[2] or reason[3]).split())
    hint = ""
    if key.startswith("trainer.") and text.startswith("No module named"):
        hint = "; if it is in the working directory, set PYTHONPATH=."
    elif text.startswith("No module named"):
        hint = "; modules are searched for in installed packages and in the working directory"
    elif (wrong := NOT_ACCEPTED.match(text)) and (given := GIVEN_CLASS.search(message)):
        hint = did_you_mean(wrong[1], _parameters(given[1]))
    elif missing := NO_ATTRIBUTE.match(text):
        hint = did_you_mean(missing[2], dir(sys.modules.get(missing[1])))
    return f"{prefix}{name}: {text}{hint}"


def _explain_value(message: str, wrong: re.Match[str], valid: Iterable[str]) -> str:
    """Which values an option takes instead of the wrong one."""
    name, got = wrong.groups()
    if nested := NESTED.match(got):
        name, got = f"{name}.{nested[1]}", nested[2]
    got = got or "nothing"
    if class_path := CLASS_NAME.search(message):  # one of a list
        got, message = class_path[1], ""
    choices = (choice for found in EXPECTED.findall(message) for choice in _choices(found))
    expected = list(dict.fromkeys(filter(None, choices)))
    if not expected or any("<" in choice or " but " in choice for choice in expected):  # as for an import path
        hint = did_you_mean(got, (known for known in valid if "." not in known))
        is_class = got[:1].isupper() and not keyword.iskeyword(got)
        if not hint and got.isidentifier() and (is_class or name == "model.network"):
            hint = f"; name a class of your own with its module, as in my_package.{got if is_class else 'MyNet'}"
        return f"{name}: cannot take {got}{hint}"
    return f"{name}: expected {' or '.join(expected)}, got {got}{did_you_mean(got, expected)}"


def _parameters(class_path: str) -> list[str]:
    """The parameters of an imported class; empty if it cannot be inspected."""
    import inspect  # needed only after a mistake

    module, _, name = class_path.rpartition(".")
    with suppress(AttributeError, TypeError, ValueError):
        return [*inspect.signature(getattr(sys.modules.get(module), name)).parameters]
    return []


def _choices(expected: str) -> list[str]:
    """The values, or the kind of value, in jsonargparse's `Expected a …`."""
    if literal := re.fullmatch(r"typing\.Literal\[(.*)\]", expected):
        return [choice.strip(" '") for choice in literal[1].split(",")]
    return [TYPE_NAMES.get(expected.removeprefix("<class '").removesuffix("'>"), expected)]
