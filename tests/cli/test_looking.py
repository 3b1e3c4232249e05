from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from channels.sketch import chain, conv, deconv, layer, linear, make, network

from cli.running import expects, leftovers, run, spawn
from net2net_cli import Net2Net
from net2net_cli.architecture.cost import layer_multiply_adds, multiply_adds, parameters

WIDE = "layer        op          width  parameters  WD  grows with"


def test_inspect_shows_each_layer_with_a_width_and_its_group(teacher: Path) -> None:
    done = run("inspect", teacher)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "sketch"
    assert lines[1] == "size    395 parameters, 1.62 kB, float32"
    assert lines[3:5] == ["input   x n×3×6×6 float32", "output  out n×5"]
    start = lines.index(WIDE)
    assert lines[start + 1 : start + 5] == [
        "conv1        Conv2d 3×3      4         112  WD  block.conv3",
        "block.conv2  Conv2d 3×3      6         222  WD",
        "block.conv3  Conv2d 1×1      4          28  W·  conv1",
        "fc           Linear          5          25  ··  the network's output `out`",
    ]
    assert "1 layer more" in done.out


def test_inspect_all_shows_what_norms_grow_with(teacher: Path) -> None:
    (line,) = [line for line in run("inspect", teacher, "--all").out.splitlines() if line.startswith("bn1")]
    assert line.split() == ["bn1", "BatchNorm2d", "4", "8", "··", "conv1,", "block.conv3"]


def test_inspect_of_a_layer_gives_every_reason(teacher: Path) -> None:
    done = run("inspect", teacher, "block.conv3")
    assert done.out.splitlines() == [
        "block.conv3  Conv2d 1×1, 4 wide, 28 parameters",
        "widen         yes; the next widths are 5, 6, 7",
        "new channels  yes",
        "deepen        no: `block.add` (add) comes before any activation",
        "follow it     bn1",
        "read it       block.conv2, fc",
        "grows with 1 other layer",
        "  conv1  `block.add` ties its operands (add)",
    ]


def test_inspect_takes_globs_and_blocks_and_refuses_the_rest(teacher: Path) -> None:
    names = [layer["name"] for layer in run("inspect", teacher, "block", "conv*", "--json").json["layers"]]
    assert names == ["block.conv2", "block.conv3", "conv1"]
    expects(run("inspect", teacher, "relu1"), 2, "`relu1` (ReLU) has no parameters", "ask about `bn1`")


def test_inspect_json_has_everything(teacher: Path) -> None:
    found = run("inspect", teacher, "--json").json
    assert found["parameters"] == 395
    assert found["dtypes"]["float32"] + found["dtypes"]["i64"] == found["bytes"]
    assert found["inputs"] == [{"name": "x", "shape": ["n", 3, 6, 6], "dtype": "float32"}]
    assert found["outputs"] == {"out": ["n", 5]}
    by_name = {layer["name"]: layer for layer in found["layers"]}
    assert by_name["conv1"]["grows_with"] == [{"layer": "block.conv3", "why": "`block.add` ties its operands (add)"}]
    assert by_name["bn1"]["follows"] == ["conv1", "block.conv3"]
    assert by_name["fc"]["not_widened"] == "it is the network's output `out`"


def test_inspect_reads_a_spec_alone(teacher: Path) -> None:
    done = run("inspect", teacher.with_suffix(".json"))
    assert "395 parameters, spec only" in done.out
    assert WIDE in done.out


def test_inspect_tells_how_a_student_was_grown(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    run("widen", teacher, "conv1=2x", "--seed", "7", "-o", out, "--no-verify")
    assert "grown by  widen conv1=2x (seed 7)" in run("inspect", out).out


def test_diff_tells_what_changed(teacher: Path) -> None:
    out = teacher.with_name("s.safetensors")
    run("widen", teacher, "block.conv2=9", "-o", out, "--no-verify")
    done = run("diff", teacher, out)
    assert done.out.splitlines()[:3] == [
        "layer        op      width",
        "block.conv2  Conv2d  6 → 9",
        "… and 1 other adapted to them; `--verbose` lists all",
    ]
    assert "parameters     395 → 518  (+31.1 %)" in done.out
    assert "block.conv3  Conv2d  other  4      28 → 40" in run("diff", teacher, out, "-v").out


def test_diff_of_equals_says_so_and_json_has_stable_keys(teacher: Path) -> None:
    assert run("diff", teacher, teacher).out.startswith("the same layers")
    found = run("diff", teacher, teacher.with_suffix(".json"), "--json").json
    assert list(found) == ["teacher", "student", "layers", "parameters", "multiply_adds", "bytes"]
    assert found["layers"] == []
    assert found["bytes"][1] is None


def test_diff_imports_no_torch(teacher: Path, poison: Path) -> None:
    assert spawn("diff", teacher, teacher, poison=poison).code == 0


def test_multiply_adds_by_the_formula() -> None:
    ops = {"a": conv(3, 8, 3), "b": conv(8, 8, 3, groups=8), "c": deconv(8, 4)}
    graph = chain((3, 10, 10), **ops)
    per_layer = [layer_multiply_adds(graph, entry) for entry in graph.layers]
    assert per_layer == [10 * 10 * 8 * 3 * 9, 10 * 10 * 8 * 9, 10 * 10 * 8 * 4 * 4]
    tokens = network((5, 7), layer("fc", linear(7, 11), "x"), layer("act", make("ReLU"), "fc"))
    assert multiply_adds(tokens) == 5 * 7 * 11
    assert parameters(tokens) == 7 * 11 + 11


def test_weights_used_twice_cost_twice_and_count_once() -> None:
    graph = network(
        (4, 6, 6), layer("a", conv(4, 4, 3), "x"), layer("b", conv(4, 4, 3), "a", weights_of="a"), output="b"
    )
    assert parameters(graph) == 4 * 4 * 9 + 4
    assert multiply_adds(graph) == 2 * 36 * 4 * 4 * 9


def test_export_to_python_is_a_module_that_loads_the_state_dict(teacher: Path) -> None:
    out = teacher.with_name("net.py")
    done = run("export", teacher, "--to", "python", "-o", out, "--class-name", "Net", "--json")
    assert done.code == 0, done.err
    assert done.json == {"checkpoint": str(teacher), "to": "python", "file": str(out), "class_name": "Net"}
    scope: dict[str, type] = {}
    exec(out.read_text(), scope)
    from safetensors.torch import load_file

    scope["Net"]().load_state_dict(load_file(teacher), strict=True)


def test_export_to_torch_is_a_state_dict(teacher: Path) -> None:
    import torch

    out = teacher.with_name("net.pt")
    assert run("export", teacher, "--to", "torch", "-o", out).code == 0
    state = torch.load(out, weights_only=True)
    assert state["conv1.weight"].numpy().tobytes() == Net2Net.load(teacher).tensor("conv1.weight").tobytes()


def test_export_replaces_nothing_unasked_and_never_what_it_exports(teacher: Path) -> None:
    out = teacher.with_name("s.py")
    out.write_text("mine")
    expects(run("export", teacher, "--to", "python", "-o", out), 2, f"`{out}` exists", "--force")
    for path in (teacher, teacher.with_suffix(".json")):
        expects(run("export", teacher, "--to", "python", "-o", path, "--force"), 2, "is what is exported", "another")
    expects(run("export", teacher, "--to", "python"), 2, "no place for the export", "teacher.py")
    expects(run("export", teacher, "--to", "torch", "-o", teacher.parent), 2, "is a folder", "model.pt")
    assert out.read_text() == "mine"
    assert leftovers(teacher.parent) == ["s.py"]


def test_env_says_what_is_there_and_judges_it() -> None:
    done = run("env", "--json")
    assert done.code == 0
    found = done.json
    assert found["torch"]
    assert found["devices"][-1]["device"] == "cpu"
    assert found["verdict"] in run("env").out


def test_env_without_torch_is_exit_5(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no such library')\n")
    done = spawn("env", "--json", poison=tmp_path)
    assert done.code == 5
    assert done.json["torch"] is None
    assert "error: cannot use PyTorch: no such library" in done.err


def machine(**facts: object) -> dict[str, object]:
    """One without a GPU."""
    return {
        "torch": "2.15",
        "driver": None,
        "driver_cuda": None,
        "cuda_build": None,
        "rocm_build": None,
        "cuda_problem": "no permission",
        "architectures": [],
        "devices": [{"device": "cpu"}],
        **facts,
    }


def gpu(name: str, capability: str, *architectures: str) -> dict[str, object]:
    return {
        "devices": [{"device": "cuda:0", "name": name, "capability": capability}],
        "architectures": list(architectures),
    }


@pytest.mark.parametrize(
    ("facts", "fits", "said", "advice"),
    [
        ({}, True, "no NVIDIA driver", None),
        ({"driver": "550.1", "driver_cuda": "12.4", "cuda_build": "13.2"}, False, "needs CUDA 13.2", "/cu124`"),
        ({"driver": "550.1", "driver_cuda": "12.4"}, False, "built without CUDA", "CUDA 12.4 or older fits"),
        ({"driver": "550.1"}, False, "a CUDA that it does not name", None),
        # within a major version newer builds run on older drivers, so that must be something else
        (
            {"driver": "550.1", "driver_cuda": "12.4", "cuda_build": "12.8"},
            False,
            "cannot use it: no permission",
            "cu124",
        ),
        (
            {"driver": "600", "driver_cuda": "13.2", "cuda_build": "13.2"},
            False,
            "cannot use it: no permission",
            "cu132",
        ),
        ({"driver": "600", "driver_cuda": "13.2", "rocm_build": "6.4"}, False, "built for AMD's ROCm 6.4", "cu132"),
        ({"torch": None}, False, "cannot be imported", None),
        (gpu("H100", "9.0", "sm_80", "sm_90"), True, "PyTorch and the GPU fit", None),
        (gpu("MI300X", "9.4", "gfx942"), True, "PyTorch and the GPU fit", None),
        (gpu("RTX 4090", "8.9", "sm_75", "sm_86"), True, "PyTorch and the GPU fit", None),
        (gpu("RTX 5090", "12.0", "sm_80", "sm_90", "compute_90"), True, "PyTorch and the GPU fit", None),
        (gpu("RTX 5090", "12.0", "sm_50", "sm_90a"), False, "no code for the RTX 5090", "a newer PyTorch"),
        (
            gpu("GTX 1080", "6.1", "sm_75", "sm_120", "compute_120"),
            False,
            "built for 7.5 to 12.0",
            "builds for older CUDA",
        ),
        (gpu("A100", "8.0", "sm_86"), False, "compute capability 8.0", "builds for older CUDA"),
    ],
)
def test_verdicts_and_which_build_would_fit(
    facts: dict[str, object], fits: bool, said: str, advice: str | None
) -> None:
    from net2net_cli.cli.environment import judge

    found = judge(machine(**facts))
    assert found[0] is fits
    assert said in found[1]
    assert advice in (found[2] or "") if advice else found[2] is None


SMI = """
| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    {cuda} Version: 13.0     |
"""


@pytest.mark.parametrize("cuda", ["CUDA", "CUDA UMD"])
def test_the_driver_is_asked_for_its_version(cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from net2net_cli.runtime import driver

    said = subprocess.CompletedProcess([], 0, SMI.format(cuda=cuda))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    assert driver.nvidia_driver() == driver.Driver("580.65.06", "13.0")


def test_without_nvidia_smi_the_kernel_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from net2net_cli.runtime import driver

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(driver, "_LINUX", tmp_path / "version")
    assert driver.nvidia_driver() == driver.Driver(None, None)
    for line in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder@U16)",
    ):
        (tmp_path / "version").write_text(line)
        assert driver.nvidia_driver() == driver.Driver("550.54.15", None)


MODULE = """
import torch
from torch import nn
print("hello from the user's code")
class Net(nn.Module):
    def __init__(self, classes=3, act="relu"):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU() if act == "relu" else nn.GELU()
        self.fc = nn.Linear(4, classes)
    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    (tmp_path / "their_net.py").write_text(MODULE)
    return f"{tmp_path / 'their_net.py'}:Net"


def test_import_writes_spec_and_checkpoint_and_sums_up(module: str, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    done = run("import", module, "--kwarg", "classes=7", "--kwarg", "act=gelu", "--input", "1x9x9", "-o", out, "--json")
    assert done.code == 0, done.err
    assert "hello from the user's code" in done.err
    assert done.json["outputs"] == {"out": ["n", 7]}
    assert "GELU" in {entry["op"] for entry in json.loads(out.with_suffix(".json").read_text())["layers"]}
    again = tmp_path / "u.safetensors"
    run("import", module, "--kwarg", "classes=7", "--kwarg", "act=gelu", "--input", "1x9x9", "-o", again)
    assert again.read_bytes() == out.read_bytes()


def test_import_refuses_places_before_it_runs_the_users_code(module: str, tmp_path: Path) -> None:
    expects(run("import", module), 2, "no place for the checkpoint", "-o teacher.safetensors")
    done = run("import", module, "-o", tmp_path / "t.pt")
    assert done.code == 2
    assert "hello" not in done.err
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"theirs")
    done = run("import", module, "--weights", weights, "-o", weights, "--force")
    expects(done, 2, "never overwritten", "another name")
    expects(run("import", module, "--kwarg", "7", "-o", "x.safetensors"), 2, "is not NAME=VALUE", "num_classes=10")


def test_a_source_that_ends_the_process_is_not_taken_for_success(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    done = run("import", f"{tmp_path / 'script.py'}:Net", "-o", tmp_path / "t.safetensors")
    expects(done, 3, "ended the process", "__main__")


def test_imported_nan_is_refused_unless_asked_for(module: str, tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    weights, out = tmp_path / "w.safetensors", tmp_path / "t.safetensors"
    shapes = {"conv.weight": (4, 1, 3, 3), "conv.bias": (4,), "fc.weight": (3, 4), "fc.bias": (3,)}
    save_file({n: np.full(s, np.nan if n == "fc.bias" else 1, dtype=np.float32) for n, s in shapes.items()}, weights)
    command = ("import", module, "--input", "1x9x9", "--weights", weights, "-o", out)
    assert "tensor `fc.bias`" in run(*command).err
    assert not out.exists()
    assert run(*command, "--allow-nan").code == 0
