"""Inputs from random numbers, arrays and images fit the network, or are refused with what is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from net2net_cli.architecture.graph import Graph, Layer, NetworkInput
from net2net_cli.architecture.ops.arithmetic import Add
from net2net_cli.architecture.ops.embedding import Embedding
from net2net_cli.architecture.ops.join import Slice
from net2net_cli.architecture.shapes import Batch
from net2net_cli.errors import InputError, UsageError
from net2net_cli.runtime.inputs import load_inputs, random_inputs

N = Batch()


def network(*inputs: NetworkInput) -> Graph:
    return Graph("n", "s", inputs, (), {"out": inputs[0].name})


PICTURES = network(NetworkInput("image", (N, 3, 4, 6)))
GREY = network(NetworkInput("image", (N, 1, 4, 6)))
TWO = network(NetworkInput("x", (N, 3)), NetworkInput("mask", (Batch(2), 3), "int64"))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_random_inputs_are_the_same_in_every_type() -> None:
    (single,), (double,) = (random_inputs(PICTURES, 2, 0, dtype) for dtype in (torch.float32, torch.float64))
    assert single.shape == (2, 3, 4, 6)
    assert torch.equal(single, double.float())
    assert not torch.equal(random_inputs(PICTURES, 2, 1)[0], double)


def test_random_integers_are_small_and_the_batch_has_its_multiple() -> None:
    x, mask = random_inputs(TWO, 50, 0)
    assert (x.shape, mask.shape) == ((50, 3), (100, 3))
    assert (int(mask.min()), int(mask.max())) == (0, 9)


def table(rows: int, value: str, name: str = "embed") -> Layer:
    return Layer(name, Embedding(rows, 3, None, scale_grad_by_freq=False, sparse=False), (value,))


LOOKED_UP = Graph(
    "n",
    "s",
    (NetworkInput("words", (N, 5), "int64"), NetworkInput("other", (N, 5), "int64")),
    (
        table(200, "words"),
        Layer("part", Slice(dim=1, start=0, stop=2, step=1), ("words",)),
        table(100, "part", "narrow"),
        Layer("next", Add(scalar=1), ("other",)),
        table(7, "next", "moved"),
    ),
    {"a": "embed", "b": "narrow", "c": "moved"},
)


def test_random_words_are_any_row_of_the_smallest_table_that_they_are_looked_up_in() -> None:
    words, other = random_inputs(LOOKED_UP, 300, 0)
    assert (int(words.min()), int(words.max())) == (0, 99)
    assert int(other.max()) == 6


@pytest.mark.parametrize("wrong", [-1, 100])
def test_words_that_a_table_does_not_have_are_refused(tmp_path: Path, wrong: int) -> None:
    words = np.zeros((2, 5), dtype=np.int64)
    save_file({"words": words, "other": words}, tmp_path / "good.safetensors")
    assert len(load_inputs(tmp_path / "good.safetensors", LOOKED_UP).batches) == 1
    words[1, 2] = wrong
    save_file({"words": words, "other": words * 0}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=f"`words` in .* holds {wrong}; `narrow` has the rows 0 … 99"):
        load_inputs(tmp_path / "bad.safetensors", LOOKED_UP)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_an_only_array_is_the_input_and_labels_stand_apart(tmp_path: Path, suffix: str) -> None:
    arrays = {"pictures": numbers(7, 3, 4, 6), "label": np.arange(7)}
    path = tmp_path / f"data{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        save_file(arrays, path)
    found = load_inputs(path, PICTURES, 5, batch=2)
    assert [len(x) for (x,) in found.batches] == [2, 2, 1]
    assert torch.equal(torch.cat([x for (x,) in found.batches]), torch.tensor(arrays["pictures"][:5]))
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 3, 4]


def test_several_inputs_are_matched_by_name(tmp_path: Path) -> None:
    save_file({"mask": np.arange(24).reshape(8, 3).astype(np.int32), "x": numbers(4, 3)}, tmp_path / "d.safetensors")
    found = load_inputs(tmp_path / "d.safetensors", TWO, batch=3)
    assert [(len(x), len(mask)) for x, mask in found.batches] == [(3, 6), (1, 2)]
    assert found.batches[0][1].dtype == torch.int64


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        (
            {"a": numbers(2, 3), "b": numbers(2, 3)},
            UsageError,
            "has the arrays `a`, `b`; the network's inputs are `image`",
        ),
        ({"a": numbers(2, 3, 5, 6)}, InputError, "`a` in .* has the shape 2×3×5×6; input `image` needs n×3×4×6"),
        ({"a": numbers(3, 4, 6)}, InputError, "has the shape 3×4×6"),
        ({"a": np.zeros((2, 3, 4, 6), np.uint8)}, InputError, "holds uint8; input `image` needs float32"),
        ({"a": numbers(2, 3, 4, 6) * np.nan}, InputError, "no finite numbers"),
        ({"a": numbers(0, 3, 4, 6)}, InputError, "one at least"),
        ({"a": numbers(2, 3, 4, 6), "y": np.arange(1)}, InputError, "2 samples and 1 labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], error: type, message: str
) -> None:
    save_file(arrays, tmp_path / "d.safetensors")
    with pytest.raises(error, match=message):
        load_inputs(tmp_path / "d.safetensors", PICTURES)


def test_files_that_are_no_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no "):
        load_inputs(tmp_path / "d.npz", PICTURES)
    for name, content, error in [
        ("d.npz", b"PK\x03\x04no", InputError),
        ("d.npz", b"", InputError),
        ("d.txt", b"", UsageError),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error):
            load_inputs(tmp_path / name, PICTURES)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.array([print], dtype=object))
    with pytest.raises(InputError, match=r"no readable \.npz file"):
        load_inputs(tmp_path / "d.npz", PICTURES)


def test_images_cover_the_input_and_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    Image.new("RGB", (12, 20), (255, 0, 127)).save(tmp_path / "b" / "second.png")
    Image.new("L", (100, 3), 255).save(tmp_path / "first.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    found = load_inputs(tmp_path, PICTURES)
    ((pixels,),) = found.batches
    assert pixels.shape == (2, 3, 4, 6)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (127 / 255 - 0.406) / 0.225]
    second = pixels[0] if pixels[0, 1, 0, 0] < 0 else pixels[1]
    assert torch.allclose(second, torch.tensor(expected)[:, None, None].expand(3, 4, 6))
    assert "ImageNet's mean" in found.note


def test_grey_images_are_between_0_and_1(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (51, 51, 51)).save(tmp_path / "a.png")
    found = load_inputs(tmp_path, GREY)
    assert torch.allclose(found.batches[0][0], torch.full((1, 1, 4, 6), 0.2))


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no images"):
        load_inputs(tmp_path, PICTURES)
    with pytest.raises(UsageError, match="the network's input is n×3, 2n×3"):
        load_inputs(tmp_path, TWO)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(InputError, match=r"a.png` is no readable image"):
        load_inputs(tmp_path, PICTURES)
