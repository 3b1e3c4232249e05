"""What the GPU must do as the CPU does, and what only it can get wrong: memory, TF32, masks, kernels in halves.

Skipped where there is no CUDA device; the tests of commands choose the GPU by themselves where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.running import run, spawn
from torch import Tensor, nn
from zoo.growing import Teacher
from zoo.networks import ENTRIES

from net2net_cli import Net2Net
from net2net_cli.checking import Checking
from net2net_cli.correspondence import corresponding
from net2net_cli.errors import GrowthRefusedError, MachineError
from net2net_cli.networks import small_resnet
from net2net_cli.runtime.compare import compare
from net2net_cli.runtime.verifying import locate_models

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DEVICE = "cuda"
MIB = 2**20


@cache
def teacher(name: str) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Teacher.of(ENTRIES[name].make(), ENTRIES[name].shapes)


def grown(name: str) -> Net2Net:
    """A network of the zoo, wider in the first layer that can be, by copies."""
    for layer in teacher(name).growable:
        with suppress(GrowthRefusedError):
            return teacher(name).net.widen({layer: "2x"}, split="random")
    pytest.skip("nothing in it can be doubled")


@pytest.mark.parametrize("level", ["outputs", "train"])
@pytest.mark.parametrize("name", ENTRIES)
def test_a_student_of_every_network_of_the_zoo_passes(name: str, level: Any) -> None:
    found = grown(name).verify(teacher(name).net, device=DEVICE, level=level)
    assert found.passed, found.error
    assert found.dtype == "float64"


class Recurrent(nn.Module):
    """An LSTM both ways and a GRU, which cuDNN computes with kernels of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(12, 7, batch_first=True)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.gru(self.lstm(x)[0])[0].mean(1))


@pytest.mark.parametrize("level", ["outputs", "train"])
def test_wider_recurrent_layers_pass(level: Any) -> None:
    torch.manual_seed(0)
    net = Net2Net.from_module(Recurrent(), torch.zeros(2, 9, 5))
    found = net.widen({"lstm": "2x", "gru": "11"}, split="random").verify(net, device=DEVICE, level=level)
    assert found.passed, found.error


class Encoder(nn.Module):
    """PyTorch's own layer, which has a fast path for inference on GPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(7, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.layer(self.embed(x)).mean(1))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("autocast", [False, True])
def test_attention_passes_in_every_type_that_people_use(dtype: str, autocast: bool) -> None:
    if autocast and dtype in ("float64", "float32"):
        pytest.skip("autocast is for types of half the width")
    torch.manual_seed(0)
    net = Net2Net.from_module(Encoder(), torch.zeros(2, 6, 7))
    for student in (net.widen({"layer.linear1": "40"}, split="random"), net.widen({"layer.self_attn:heads": "8"})):
        found = student.verify(net, device=DEVICE, dtype=dtype, autocast=autocast)
        assert found.passed, (found.error, found.tolerance)


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight by a thousandth": lambda m: m[0].weight[1, 0, 1, 1].mul_(1.001),
    "a running mean": lambda m: m[1].running_mean[0].add_(1e-3),
    "permuted outputs": lambda m: (m[4].weight.copy_(m[4].weight.flip(0)), m[4].bias.copy_(m[4].bias.flip(0))),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_student_is_caught_and_an_unchanged_one_agrees_in_every_bit(name: str, dtype: torch.dtype) -> None:
    images = [(torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)),)]
    options: dict[str, Any] = {"device": DEVICE, "dtype": dtype}
    assert compare(convolutions(), convolutions(), images, **options).error == 0
    changed = convolutions()
    with torch.no_grad():
        CHANGES[name](changed)
    assert not compare(convolutions(), changed, images, **options).passed


def test_the_gpu_its_driver_and_the_build_are_named() -> None:
    images = [(torch.randn(2, 1, 4, 4),)]
    machine = compare(convolutions(), convolutions(), images, device=DEVICE).machine
    assert torch.cuda.get_device_name() in machine.device
    assert machine.driver
    assert machine.cuda == torch.version.cuda


def test_training_mode_draws_the_same_masks() -> None:
    net = Net2Net.from_module(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)), torch.zeros(2, 5)
    )
    found = net.widen({"0": 13}, split="random").verify(net, device=DEVICE, level="train")
    assert found.passed, found.error
    assert not found.notes


def test_float32_is_computed_without_tf32_and_the_callers_choice_is_left_as_it_was() -> None:
    """TF32 keeps 10 bits of each factor, which is an error of about 5e-4 of a product."""
    torch.manual_seed(0)
    net = nn.Linear(512, 512)
    x = torch.randn(64, 512)
    exact = net.double()(x.double())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.no_grad():
            rough = net.float().to(DEVICE)(x.to(DEVICE)).cpu()
        found = compare(net.double().cpu(), Exactly(exact), [(x,)], device=DEVICE, dtype=torch.float32)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert (rough - exact).abs().max() / exact.std() > 1e-4  # else this GPU has no TF32, and the test says nothing
    assert found.error < 1e-5


class Exactly(nn.Module):
    """Returns what it was given when it was made."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.register_buffer("out", out.detach())

    def forward(self, x: Tensor) -> Any:
        del x
        return self.out


def wide_linear() -> nn.Module:
    """64 MiB of parameters in float64."""
    return nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 2048))


def test_one_network_at_a_time_is_on_the_device_and_nothing_stays_there() -> None:
    teacher_, student_ = wide_linear(), wide_linear()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    compare(teacher_, student_, [(torch.randn(4, 2048),)], device=DEVICE)
    assert torch.cuda.max_memory_allocated() - before < 1.5 * 64 * MIB
    assert torch.cuda.memory_allocated() - before < MIB
    assert next(teacher_.parameters()).device.type == "cpu"


@pytest.fixture
def little_memory() -> Any:
    """So much of the device's memory that half a gibibyte is left to this process."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 512 * MIB) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


class Spread(nn.Module):
    """32 MiB of activations a sample in float64, then their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4096, 1)
        self.head = nn.Linear(4096, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.conv(x).mean((2, 3)))


@pytest.mark.usefixtures("little_memory")
def test_batches_that_do_not_fit_are_split_and_it_is_said() -> None:
    torch.manual_seed(0)
    net = Net2Net.from_module(Spread(), torch.zeros(2, 1, 4, 4))
    module, images = net.to_module(), torch.randn(64, 1, 32, 32)
    found = compare(module, module, [(images,)], device=DEVICE)
    assert found.passed
    assert found.samples == 64
    assert any("memory did not suffice for whole batches" in note for note in found.notes)


@pytest.mark.usefixtures("little_memory")
def test_a_sample_that_does_not_fit_is_refused_with_what_can_be_done() -> None:
    with pytest.raises(MachineError, match="has not enough memory for this network") as caught:
        compare(Spread(), Spread(), [(torch.randn(2, 1, 256, 256),)], device=DEVICE)
    assert "--device cpu" in str(caught.value.hint)
    assert torch.cuda.memory_allocated() < 128 * MIB  # libraries keep workspaces


@pytest.mark.usefixtures("little_memory")
def test_a_batch_in_training_that_does_not_fit_is_not_split() -> None:
    with pytest.raises(MachineError, match="in training mode cannot be split"):
        compare(Spread(), Spread(), [(torch.randn(64, 1, 32, 32),)], device=DEVICE, mode="train")


def test_the_layer_that_differs_is_named() -> None:
    torch.manual_seed(0)
    net = Net2Net.from_module(small_resnet(5, 1, width=4, blocks=1), torch.zeros(2, 1, 8, 8))
    layer = "layer2.0.conv2"
    tensors = {name: net.tensor(name).copy() for name, *_ in net.graph.tensors()}
    tensors[f"{layer}.weight"][0, 0] *= 1.5
    spoilt = Net2Net.from_tensors(net.graph, tensors)
    checking = Checking(device=DEVICE)
    found = locate_models(net, spoilt, corresponding(net, spoilt).values, checking, spoilt.verify(net, device=DEVICE))
    assert [one.name for one in found.culprits] == [layer]


def test_commands_take_the_gpu_by_themselves_and_say_so(tmp_path: Path) -> None:
    net = Net2Net.from_module(small_resnet(5, 1, width=4, blocks=1), torch.zeros(2, 1, 8, 8))
    net.save(tmp_path / "teacher.safetensors")
    student = tmp_path / "student.safetensors"
    done = run("widen", tmp_path / "teacher.safetensors", "layer1.0.conv1=2x", "-o", student, "--json")
    assert done.code == 0, done
    assert torch.cuda.get_device_name() in done.out
    done = run("verify", tmp_path / "teacher.safetensors", student, "--json")
    assert done.json["device"].startswith("cuda (")
    assert run("env").out.count(torch.cuda.get_device_name()) >= 1


def test_a_network_and_a_checkpoint_that_are_on_the_gpu_are_imported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = small_resnet(5, 1, width=4, blocks=1)
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    net = Net2Net.from_module(module.to(DEVICE), torch.zeros(2, 1, 8, 8, device=DEVICE))
    assert next(module.parameters()).is_cuda
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    again = "import torch\nfrom net2net_cli.networks import small_resnet\n\ndef make():\n"
    (tmp_path / "made.py").write_text(again + "    return small_resnet(5, 1, width=4, blocks=1)\n")
    done = run(
        *("import", f"{tmp_path / 'made.py'}:make", "--weights", tmp_path / "weights.pt"),
        *("--input", "1x8x8", "-o", tmp_path / "net.safetensors"),
    )
    assert done.code == 0, done
    for found in (net, Net2Net.load(tmp_path / "net.safetensors")):
        for name, *_ in found.graph.tensors():
            assert np.array_equal(found.tensor(name), expected[name].numpy()), name


def test_an_optimizer_state_that_was_saved_on_the_gpu_grows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    Net2Net.from_module(module, torch.zeros(2, 5)).save(tmp_path / "t.safetensors")
    module.to(DEVICE)
    optimizer = torch.optim.AdamW(module.named_parameters(), lr=1e-3, fused=True)
    module(torch.randn(4, 5, device=DEVICE)).square().sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "t.optim.pt")
    done = run(
        *("widen", tmp_path / "t.safetensors", "0=12", "--optimizer", tmp_path / "t.optim.pt"),
        *("-o", tmp_path / "s.safetensors"),
    )
    assert done.code == 0, done
    student = Net2Net.load(tmp_path / "s.safetensors").to_module().to(DEVICE)
    going_on = torch.optim.AdamW(student.named_parameters(), lr=1e-3, fused=True)
    going_on.load_state_dict(torch.load(tmp_path / "s.optim.pt", weights_only=True))
    student(torch.randn(4, 5, device=DEVICE)).square().sum().backward()
    going_on.step()


def test_a_device_that_fails_is_told_as_a_failure_of_the_device(tmp_path: Path) -> None:
    """An index beyond a table poisons a process's CUDA context, so that it has a process of its own."""
    net = Net2Net.from_module(nn.Sequential(nn.Embedding(4, 6), nn.Linear(6, 3)), torch.zeros(2, 5, dtype=torch.int64))
    net.save(tmp_path / "t.safetensors")
    net.widen({"0": "9"}).save(tmp_path / "s.safetensors")
    np.savez(tmp_path / "beyond.npz", x=np.full((2, 5), 1000))
    done = spawn("verify", tmp_path / "t.safetensors", tmp_path / "s.safetensors", "--inputs", tmp_path / "beyond.npz")
    assert done.code not in (0, 1), done
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
