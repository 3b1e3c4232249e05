"""What `python -m experiments.train` takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.data import DATASETS, Source


@dataclass(frozen=True)
class Options:
    """One training run."""

    checkpoint: Path
    out: Path
    source: Source
    steps: int
    batch: int
    seed: int
    optimizer: str
    lr: float
    final_lr: float
    warmup: int
    weight_decay: float
    momentum: float
    clip: float | None
    ema: float | None
    dropout: float | None
    state_file: Path | None
    train_json: Path | None
    eval_every: int
    eval_at: tuple[int, ...]
    eval_batch: int
    save_every: int
    channels_last: bool
    workers: int
    accelerator: str
    devices: str
    num_nodes: int
    strategy: str
    precision: str
    tensorboard: bool
    arguments: tuple[str, ...]


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; ends the process where it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m experiments.train", description="Train a checkpoint.")
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="teacher or student: NAME.safetensors with its spec")
    add("-o", "--out", type=Path, required=True, help="folder of model.safetensors, model.optim.pt, result.json, logs")
    add("--data", choices=DATASETS, default="digits")
    add("--data-dir", type=Path, help="where the data is")
    add("--download", action="store_true", help="let torchvision fetch what is not there")
    add("--size", type=int, help="height and width of the images")
    add("--augment", choices=("none", "flip", "crop"), default="none")
    add("--train-images", type=int)
    add("--valid-images", type=int)
    add("--steps", type=int, default=1000)
    add("--batch", type=int, default=64, help="images a step, over all devices (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--optim", choices=("adamw", "sgd"), default="adamw")
    add("--lr", type=float, default=3e-3)
    add("--final-lr", type=float, default=0.0, help="part of the learning rate that is left at the end")
    add("--warmup", type=int, default=0, help="steps")
    add("--weight-decay", type=float, default=0.01)
    add("--momentum", type=float, default=0.9, help="of SGD")
    add("--clip", type=float, help="largest norm of the gradients")
    add("--ema", type=float, help="keep an average of the weights with this decay, and judge it")
    add("--dropout", type=float, help="probability of every dropout layer that the checkpoint has")
    add("--optimizer", type=Path, dest="state_file", help="STUDENT.optim.pt: the state to go on with")
    add("--train-json", type=Path, help="STUDENT.train.json: learning-rate factors")
    add("--state", choices=("grown", "fresh"), default="grown", help="fresh: leave out --optimizer and --train-json")
    add("--eval-every", type=int, default=100, help="steps")
    add("--eval-at", type=int, nargs="*", default=(), help="steps besides")
    add("--eval-batch", type=int, default=500)
    add("--save-every", type=int, default=200, help="steps between states to resume from")
    add("--channels-last", action="store_true", help="faster; some CPU builds of torch crash below 8 channels")
    add("--workers", type=int, default=0, help="processes that read images")
    add("--accelerator", default="auto", help="as Lightning Fabric has it: cpu, cuda, mps, …")
    add("--devices", default="1", help="as Fabric: a number, a list, auto")
    add("--num-nodes", type=int, default=1)
    add("--strategy", default="auto", help="as Fabric: ddp, …")
    add("--precision", default="32-true", help="as Fabric: 16-mixed, bf16-mixed, …")
    add("--tensorboard", action="store_true")
    given = vars(parser.parse_args(argv))
    if given["steps"] < 1 or given["batch"] < 1:
        parser.error("--steps and --batch are 1 or more")
    names = ("data_dir", "size", "augment", "train_images", "valid_images", "download")
    source = Source(given.pop("data"), *(given.pop(name) for name in names))
    if given.pop("state") == "fresh":
        given |= {"state_file": None, "train_json": None}
    given |= {"optimizer": given.pop("optim"), "eval_at": tuple(given["eval_at"])}
    return Options(source=source, arguments=tuple(argv), **given)
