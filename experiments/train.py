"""Trains a checkpoint, teacher or student; knows nothing of growing.

    python -m experiments.train --data fashion-mnist --checkpoint student.safetensors --out runs/student

Lightning Fabric finds the devices and the other processes, as it does under `torchrun` and SLURM. A run that was killed
goes on when it is started again with the same arguments, and ends as it would have ended.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from experiments.data import Data, Labelled, Steps, as_it_is, load, mixed
from experiments.errors import exit_code_of
from experiments.models import save
from experiments.optim import (
    Schedule,
    build_optimizer,
    factors_from,
    parameter_groups,
    read_saved,
    restore_state,
    set_rate,
)
from experiments.options import Options, parse
from net2net_cli import Net2Net

STATE, RESULT = "state.ckpt", "result.json"


@dataclass
class Run:
    """A training run as far as it has come."""

    options: Options
    fabric: Fabric
    data: Data
    raw: nn.Module
    model: Any
    optimizer: Any
    average: AveragedModel | None
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """All that a killed run goes on from."""
        plain = {name: getattr(self, name) for name in ("step", "history", "losses", "seconds", "cpu_seconds")}
        average = {} if self.average is None else {"average": self.average}
        return {"model": self.model, "optimizer": self.optimizer, **average, **plain}


def prepare(options: Options, fabric: Fabric) -> Run:
    """Read data, checkpoint and state, and put them on the device."""
    data = load(options.source)
    if options.workers == 0:
        data = data.on(fabric.device)
    network = Net2Net.load(options.checkpoint)
    raw = network.to_module()
    if options.dropout is not None:
        for module in raw.modules():
            if isinstance(module, nn.Dropout):
                module.p = options.dropout
    if options.channels_last:
        raw = raw.to(memory_format=torch.channels_last)
    elif fabric.device.type == "cpu":
        pool_channels_last(raw)
    factors = factors_from(options.train_json, options.optimizer)
    groups = parameter_groups(raw, options.lr, options.weight_decay, factors, options.optimizer)
    model, optimizer = fabric.setup(raw, build_optimizer(options.optimizer, groups, options.momentum))
    average = None
    if options.ema is not None:
        follow = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]  # torch does not annotate it
        average = AveragedModel(raw, multi_avg_fn=follow, use_buffers=True)
    if options.state_file is not None:
        saved = read_saved(options.state_file)
        restore_state(optimizer, saved["optimizer"], options.state_file)
        if average is not None and "average" in saved:
            average.module.load_state_dict(saved["average"])
            average.n_averaged.fill_(1)  # else the first update would take the weights themselves
    return Run(options, fabric, data, raw, model, optimizer, average)


def pool_channels_last(model: nn.Module) -> None:
    """Let pools alone have their channels last: on CPUs they take half as long so, and return the same to rounding."""
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            module.register_forward_pre_hook(lambda _, x: (x[0].contiguous(memory_format=torch.channels_last),))
            module.register_forward_hook(lambda _, x, y: y.contiguous())


def train(run: Run) -> None:
    """All steps that are left, with validation and states to resume from in between."""
    options, fabric = run.options, run.fabric
    schedule = Schedule(options.steps, options.warmup, options.final_lr)
    shard = {"rank": fabric.global_rank, "world": fabric.world_size}
    places = Steps(len(run.data.train), options.batch, run.step, options.steps, options.seed, **shard)
    batches = iter(_loader(run.data.train, places, options))
    if not run.history:
        judge(run)
    with _progress(run) as advance:
        for x, label in batches:
            begun, cpu = time.perf_counter(), time.process_time()
            loss = _one_step(run, schedule, _placed(x, run), label.to(fabric.device))
            run.losses.append(round(float(fabric.all_reduce(loss, reduce_op="mean")), 5))
            run.step += 1
            run.seconds += time.perf_counter() - begun
            run.cpu_seconds += time.process_time() - cpu
            advance()
            if run.step % options.eval_every == 0 or run.step in options.eval_at or run.step == options.steps:
                judge(run)
            if run.step % options.save_every == 0 and run.step < options.steps:
                _save_state(run)


def _one_step(run: Run, schedule: Schedule, x: Tensor, label: Tensor) -> Tensor:
    options, fabric = run.options, run.fabric
    torch.manual_seed(mixed(options.seed, run.step, fabric.global_rank))  # of dropout: what a step draws is its own
    set_rate(run.optimizer, schedule.at(run.step))
    run.optimizer.zero_grad()
    loss = functional.cross_entropy(run.model(x), label)
    fabric.backward(loss)
    if options.clip is not None:
        fabric.clip_gradients(run.model, run.optimizer, max_norm=options.clip)
    run.optimizer.step()
    if run.average is not None:
        run.average.update_parameters(run.raw)
    return loss.detach()


@torch.no_grad()
def judge(run: Run) -> None:
    """Loss and accuracy on the validation images, into the history and the logs."""
    options, fabric = run.options, run.fabric
    judged = run.raw if run.average is None else run.average.module
    judged.eval()
    count = len(run.data.valid)
    mine = [(number, 0) for number in range(fabric.global_rank, count, fabric.world_size)]
    batches = [mine[at : at + options.eval_batch] for at in range(0, len(mine), options.eval_batch)]
    sums = torch.zeros(2, dtype=torch.float64)
    for x, label in _loader(run.data.valid, batches, options):
        with fabric.autocast():
            out = judged(_placed(x, run)).float().cpu()
        label = label.cpu()
        sums[0] += functional.cross_entropy(out, label, reduction="sum").double()
        sums[1] += (out.argmax(1) == label).sum()
    judged.train()
    loss, correct = fabric.all_reduce(sums, reduce_op="sum").tolist()
    entry = {
        "step": run.step,
        "valid_loss": loss / count,
        "accuracy": correct / count,
        "train_loss": sum(run.losses[-50:]) / max(1, len(run.losses[-50:])),
        "lr": max(group["lr"] for group in run.optimizer.param_groups),
        "seconds": round(run.seconds, 3),
        "cpu_seconds": round(run.cpu_seconds, 3),
    }
    run.history.append(entry)
    _log(run, entry)


def _placed(x: Tensor, run: Run) -> Tensor:
    x = x.to(run.fabric.device)
    return x.contiguous(memory_format=torch.channels_last) if run.options.channels_last else x


def _loader(images: Labelled, batches: Any, options: Options) -> DataLoader[Any]:
    return DataLoader(images, batch_sampler=batches, num_workers=options.workers, collate_fn=as_it_is)  # type: ignore[arg-type]  # batches are asked for whole


def _log(run: Run, entry: dict[str, float]) -> None:
    run.fabric.log_dict({name: value for name, value in entry.items() if name != "step"}, step=int(entry["step"]))


def _save_state(run: Run) -> None:
    """Whole or not at all: under another name first."""
    path = run.options.out / STATE
    part = path.with_suffix(".part")
    run.fabric.save(part, run.state())
    if run.fabric.is_global_zero:
        part.replace(path)
    run.fabric.barrier()


def _resume(run: Run) -> None:
    path = run.options.out / STATE
    if not path.exists():
        return
    state = run.state()
    run.fabric.load(path, state)
    for name in ("step", "history", "losses", "seconds", "cpu_seconds"):
        setattr(run, name, state[name])
    for entry in run.history:  # the loggers begin their files again
        _log(run, entry)


@contextmanager
def _progress(run: Run) -> Iterator[Any]:
    console = Console(stderr=True)
    with Progress(console=console, disable=not (run.fabric.is_global_zero and console.is_terminal)) as progress:
        task = progress.add_task(str(run.options.out), total=run.options.steps, completed=run.step)
        yield lambda: progress.advance(task)


def _write(run: Run) -> None:
    """Checkpoint, optimizer state, and last the result, which says that all is there."""
    options = run.options
    out = options.out
    save(run.raw, Net2Net.load(options.checkpoint), out / "model.safetensors")
    saved = {"optimizer": run.optimizer.state_dict(), "step": run.step}
    if run.average is not None:
        saved["average"] = run.average.module.state_dict()
    torch.save(saved, out / "model.optim.pt")
    result = {
        "arguments": options.arguments,
        "parameters": sum(parameter.numel() for parameter in run.raw.parameters()),
        "history": run.history,
        "losses": run.losses,
        "machine": machine(run.fabric),
    }
    part = out / f"{RESULT}.part"
    part.write_text(json.dumps(result) + "\n", encoding="utf-8")
    part.replace(out / RESULT)
    (out / STATE).unlink(missing_ok=True)


def machine(fabric: Fabric) -> dict[str, Any]:
    """What it ran on."""
    device = fabric.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = torch.get_num_threads()
    return {"device": name, "threads": threads, "processes": fabric.world_size, "torch": torch.__version__}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def fabric_of(options: Options) -> Fabric:
    """Lightning Fabric as the options ask for it."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it by default
    loggers: list[Any] = [CSVLogger(options.out, name="csv", version="", flush_logs_every_n_steps=1)]
    if options.tensorboard:
        loggers.append(TensorBoardLogger(options.out, name="tensorboard", version=""))
    devices = int(options.devices) if options.devices.lstrip("-").isdigit() else options.devices
    return Fabric(
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        precision=options.precision,
        loggers=loggers,
    )


def run_training(options: Options) -> None:
    """Train, unless the folder has a result already."""
    if (options.out / RESULT).exists():
        sys.stderr.write(f"{options.out} is trained already\n")
        return
    fabric = fabric_of(options)
    fabric.launch()
    options.out.mkdir(parents=True, exist_ok=True)
    run = prepare(options, fabric)
    _resume(run)
    train(run)
    fabric.barrier()
    if fabric.is_global_zero:
        _write(run)
    for logger in fabric.loggers:
        logger.finalize("success")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parse(sys.argv[1:] if argv is None else argv)
    return exit_code_of(lambda: run_training(options))


if __name__ == "__main__":
    sys.exit(main())
