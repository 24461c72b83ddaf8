"""A small checkpoint's contents."""

from typing import Any

from torch import nn

from mnist_lit.runs.metadata import METADATA_KEY

METADATA = {"config": "model: {}\n", "data": "f00", "classes": ["0", "1"], "scores": {"val/acc": 0.5}, "curves": {}}
CONFIG = """
seed_everything: 3
figures: true
config: run.yaml
model: {lr: 0.1, optimizer: sgd, network: my.Own, callbacks: [a], init_from: /me/runs/best.ckpt}
data: {data_dir: /me/data, mirrors: http, timeout: 3, val_size: 5}
trainer: {max_epochs: 2, precision: 16-mixed, strategy: my.Strategy, max_time: '1', default_root_dir: /me}
"""


def content() -> dict[str, Any]:
    metadata = {**METADATA, "versions": {"mnist-lit": "2.0.0"}}
    more = {"hyper_parameters": {"num_classes": 2}, "global_step": 3, METADATA_KEY: metadata}
    return {"state_dict": nn.Linear(2, 1).state_dict(), **more}
