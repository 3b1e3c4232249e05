"""State dicts as people have them, and files that must not be trusted."""

from __future__ import annotations

import collections
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch

from net2net_cli.checkpoint.torch_file import load_state_dict
from net2net_cli.errors import CheckpointError, UsageError

WEIGHT = torch.arange(6, dtype=torch.float32).reshape(2, 3)
STATE = {"fc.weight": WEIGHT, "fc.bias": torch.ones(2)}


def save(folder: Path, content: object, name: str = "t.pt", **options: Any) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


@pytest.mark.parametrize("zipped", [True, False])
def test_every_type_comes_back_as_torch_saved_it(tmp_path: Path, zipped: bool) -> None:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
    kinds += [torch.float8_e4m3fn, torch.float8_e5m2] if zipped else []  # torch itself cannot read these back
    state = {str(kind): WEIGHT.to(kind) for kind in kinds} | {"scalar": torch.tensor(3), "empty": torch.zeros(0, 2)}
    loaded = load_state_dict(save(tmp_path, state, _use_new_zipfile_serialization=zipped))
    assert loaded.tensors.keys() == state.keys()
    for name, tensor in state.items():
        array = loaded.tensors[name]
        assert array.shape == tensor.shape, name
        assert array.dtype.name == str(tensor.dtype).removeprefix("torch."), name
        np.testing.assert_array_equal(array.astype(np.float64), tensor.double().numpy())
        assert not array.flags.writeable
    assert loaded.tensors["torch.bfloat16"].dtype == np.dtype(ml_dtypes.bfloat16)
    assert loaded.aliases == {}
    assert loaded.notes == []


def test_transposed_conjugated_and_parameter_tensors_have_their_values(tmp_path: Path) -> None:
    state = {
        "t": WEIGHT.t(),
        "part": WEIGHT[:, 1:],
        "conj": torch.tensor([1 + 2j]).conj(),
        "p": torch.nn.Parameter(WEIGHT.clone()),
    }
    loaded = load_state_dict(save(tmp_path, state)).tensors
    np.testing.assert_array_equal(loaded["t"], WEIGHT.t().numpy())
    np.testing.assert_array_equal(loaded["part"], WEIGHT[:, 1:].numpy())
    np.testing.assert_array_equal(loaded["conj"], [1 - 2j])
    np.testing.assert_array_equal(loaded["p"], WEIGHT.numpy())
    assert loaded["t"].flags.c_contiguous


def test_tied_tensors_are_kept_once_under_the_name_that_save_model_keeps(tmp_path: Path) -> None:
    same_start = {"a.transposed": WEIGHT.view(3, 2), "a.part": WEIGHT[:1]}  # same memory, other tensors
    state = {"lm_head.weight": WEIGHT, "embed.weight": WEIGHT, "zero": WEIGHT[:0], "void": WEIGHT[:0], **same_start}
    loaded = load_state_dict(save(tmp_path, state))
    assert loaded.aliases == {"lm_head.weight": "embed.weight"}
    assert set(loaded.tensors) == state.keys() - {"lm_head.weight"}


@pytest.mark.parametrize(
    "keys", [("state_dict",), ("model_state_dict",), ("model",), ("net",), ("model", "state_dict")]
)
def test_a_wrapped_state_dict_is_found_and_said(tmp_path: Path, keys: tuple[str, ...]) -> None:
    content: dict[str, Any] = STATE
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "loss": torch.tensor(0.1)}
    loaded = load_state_dict(save(tmp_path, content))
    assert set(loaded.tensors) == set(STATE)
    assert loaded.notes == [f"the weights are those under `{key}`" for key in keys]


def test_of_a_model_and_its_average_the_model_is_taken_and_the_other_named(tmp_path: Path) -> None:
    content = {"model_ema": {"fc.weight": torch.zeros(1)}, "model": STATE, "optimizer": {"state": {}}}
    loaded = load_state_dict(save(tmp_path, content))
    np.testing.assert_array_equal(loaded.tensors["fc.weight"], WEIGHT.numpy())
    assert any("`model_ema`" in note for note in loaded.notes)


def test_a_wrapper_key_that_holds_settings_is_no_wrapper(tmp_path: Path) -> None:
    loaded = load_state_dict(save(tmp_path, {"model": {"arch": "resnet18"}, "ema": STATE}))
    assert set(loaded.tensors) == set(STATE)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_prefixes_of_whole_module_wrappers_are_taken_off(tmp_path: Path, prefix: str, suffix: str) -> None:
    content = {prefix + name: tensor for name, tensor in STATE.items()}
    path = tmp_path / f"t{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(content, path)
    loaded = load_state_dict(path)
    assert set(loaded.tensors) == set(STATE)
    assert loaded.notes == [f"the prefix `{prefix}` was taken off every name"]


@pytest.mark.parametrize(
    "names", [["module.a", "b"], ["model.a", "model.b"], ["module.", "module.a"], ["encoder.module.a"]]
)
def test_names_that_only_look_like_wrapped_ones_stay(tmp_path: Path, names: list[str]) -> None:
    loaded = load_state_dict(save(tmp_path, {name: torch.zeros(1) for name in names}))
    assert list(loaded.tensors) == names
    assert loaded.notes == []


def test_aliases_follow_the_prefix(tmp_path: Path) -> None:
    for path in (tmp_path / "t.pt", tmp_path / "t.safetensors"):
        if path.suffix == ".pt":
            torch.save({"module.b": WEIGHT, "module.a": WEIGHT}, path)
        else:
            safetensors.torch.save_file({"module.a": WEIGHT}, path, {"module.b": "module.a"})
        assert load_state_dict(path).aliases == {"b": "a"}


def test_entries_that_are_no_tensors_are_passed_over_and_named(tmp_path: Path) -> None:
    state = collections.OrderedDict(STATE) | {"fc._extra_state": None, "step": 7}
    loaded = load_state_dict(save(tmp_path, state))
    assert set(loaded.tensors) == set(STATE)
    assert loaded.notes == ["not tensors, so passed over: `fc._extra_state`, `step`"]


class Runs:
    """A pickle that creates a file when it is loaded without care."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sentinel,))


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle 2", "pickle 4"])
@pytest.mark.parametrize("name", ["t.pt", "t.bin", "t.weights"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(tmp_path: Path, how: str, name: str) -> None:
    content, path = {"w": Runs(tmp_path / "sentinel")}, tmp_path / name
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, protocol=int(how[-1])))
    else:
        save(tmp_path, content, name, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match="nothing of it was executed") as caught:
        load_state_dict(path)
    assert "state_dict()" in (caught.value.hint or "")
    assert not (tmp_path / "sentinel").exists()
    pickle.loads(pickle.dumps(content))
    assert (tmp_path / "sentinel").exists(), "the attack itself must work, or this test says nothing"


def test_a_saved_module_is_refused_and_its_class_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"`torch\.nn\.modules\.linear\.Linear`"):
        load_state_dict(save(tmp_path, torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: WEIGHT, "holds a Tensor"),
        (lambda: [WEIGHT], "holds a list"),
        (lambda: {"encoder": {"w": WEIGHT}, "decoder": {"w": WEIGHT}}, "`encoder`, `decoder`"),
        (lambda: {0: WEIGHT}, "key 0"),
        (lambda: {"w": WEIGHT.to_sparse()}, "`w` .* sparse_coo"),
        (lambda: {"w": torch.zeros(2, device="meta")}, "`w` .* meta"),
        (lambda: {"w": torch.quantize_per_tensor(WEIGHT, 1.0, 0, torch.qint8)}, "`w` .* quantized"),
        (lambda: {"w": torch.zeros(2, dtype=torch.complex32)}, "`w` .*complex32"),
        (lambda: {"w": torch.zeros(2, dtype=torch.complex128)}, "`w` .*complex128"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")  # torch says that some of these kinds are about to go
def test_what_is_no_state_dict_of_dense_tensors_is_refused(
    tmp_path: Path, content: Callable[[], object], message: str
) -> None:
    path = save(tmp_path, content())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_state_dict(path)
    assert caught.value.hint


def test_an_empty_state_dict_is_one(tmp_path: Path) -> None:
    assert load_state_dict(save(tmp_path, {})).tensors == {}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, zipped: bool, kept: float) -> None:
    path = save(tmp_path, {"w": torch.zeros(3000)}, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"cut short|more in it"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"plain text", "neither a PyTorch nor"),
        (b"\x80\x02junk" * 9, "damaged"),
        (b"PK\x03\x04" * 9, "damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x89HDF\r\n", "HDF5"),
    ],
)
def test_what_is_no_pytorch_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_state_dict(tmp_path / "t.pth")
    assert caught.value.hint


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", w=np.zeros(3))
    with pytest.raises(CheckpointError, match="not saved by"):
        load_state_dict(tmp_path / "t.npz")


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, its files remain
def test_a_torchscript_program_is_named(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "t.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(CheckpointError, match="TorchScript") as caught:
        load_state_dict(tmp_path / "t.pt")
    assert "torch.jit.load" in (caught.value.hint or "")


def test_a_safetensors_file_is_recognised_under_any_name(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "t.bin")
    loaded = load_state_dict(tmp_path / "t.bin")
    np.testing.assert_array_equal(loaded.tensors["fc.weight"], WEIGHT.numpy())


def test_no_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_state_dict(tmp_path / "t.pt")


def test_the_package_and_safetensors_files_need_no_torch(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "t.safetensors")
    code = f"""
import sys, pathlib
from net2net_cli.checkpoint import lineage, publish, safetensors_file, torch_file
assert len(torch_file.load_state_dict(pathlib.Path({str(tmp_path / "t.safetensors")!r})).tensors) == 2
assert "torch" not in sys.modules and "safetensors" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
