"""Nine ways in which a student can be wrong: a file is read, spoilt in one place, and written again.

By safetensors' own reader and writer, so that nothing of what is tested has a hand in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from oracles.networks import Oracle

Tensors = dict[str, np.ndarray]
Layer = dict[str, Any]


class Student:
    """A student's file, taken apart.

    Attributes:
        tensors: by name.
        layers: the spec's, by name.
    """

    def __init__(self, path: Path) -> None:
        with safe_open(path, "np") as file:
            self._metadata = dict(file.metadata())
            self.tensors: Tensors = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
        self.spec: dict[str, Any] = json.loads(self._metadata["net2net.spec"])
        self.layers: dict[str, Layer] = {layer["name"]: layer for layer in self.spec["layers"]}

    def write(self, path: Path) -> None:
        """With its spec inside, and none beside it."""
        save_file(self.tensors, path, self._metadata | {"net2net.spec": json.dumps(self.spec)})

    def insert(self, layer: Layer, behind: str) -> None:
        """A layer between one and all that read it."""
        place = next(i for i, one in enumerate(self.spec["layers"]) if one["name"] == behind)
        for one in self.spec["layers"]:
            one["inputs"] = [layer["name"] if x == behind else x for x in one["inputs"]]
        self.spec["layers"].insert(place + 1, layer | {"inputs": [behind]})


def one_weight_off_by_a_part_in_a_thousand(student: Student, at: Oracle) -> None:
    weight = student.tensors[at.weight][0].reshape(-1)  # the first channel is never a new one, which nothing would see
    weight[np.argmax(np.abs(weight))] *= 1.001


def one_running_variance(student: Student, at: Oracle) -> None:
    student.tensors[f"{at.statistics}.running_var"][0] *= 1.5


def two_channels_swapped_in_one_tensor(student: Student, at: Oracle) -> None:
    weight = student.tensors[at.weight]
    # Copies may be swapped: they do the same, however they share. So may new channels, which nothing reads. Hence the
    # first channel, and the one whose sum over what it reads is the farthest from its own.
    sums = weight.reshape(len(weight), -1).sum(axis=1)
    other = int(np.argmax(np.abs(sums - sums[0])))
    weight[[0, other]] = weight[[other, 0]]


def a_share_that_does_not_sum_to_1(student: Student, at: Oracle) -> None:
    weight = student.tensors[at.reader]
    weight[0, np.flatnonzero(weight[0].reshape(weight.shape[1], -1)[:, 0])[-1]] *= 1.01


def a_lost_bias(student: Student, at: Oracle) -> None:
    student.tensors[at.bias][:] = 0


def eps_changed(student: Student, at: Oracle) -> None:
    student.layers[at.norm]["eps"] *= 2


def the_wrong_padding_mode(student: Student, at: Oracle) -> None:
    assert at.padded is not None
    student.layers[at.padded]["padding_mode"] = "replicate"


def an_added_layer_that_is_no_identity_for_negative_inputs(student: Student, at: Oracle) -> None:
    student.insert({"name": "added", "op": "LeakyReLU", "negative_slope": 0.99}, at.before)


def outputs_permuted(student: Student, at: Oracle) -> None:
    for key in ("weight", "bias"):
        student.tensors[f"{at.head}.{key}"] = np.roll(student.tensors[f"{at.head}.{key}"], 1, axis=0)


MUTATIONS: tuple[Callable[[Student, Oracle], None], ...] = (
    one_weight_off_by_a_part_in_a_thousand,
    one_running_variance,
    two_channels_swapped_in_one_tensor,
    a_share_that_does_not_sum_to_1,
    a_lost_bias,
    eps_changed,
    the_wrong_padding_mode,
    an_added_layer_that_is_no_identity_for_negative_inputs,
    outputs_permuted,
)


def applies(mutation: Callable[[Student, Oracle], None], at: Oracle) -> bool:
    """Whether a network has what the mutation spoils."""
    if mutation is one_running_variance:
        return at.statistics is not None
    return mutation is not the_wrong_padding_mode or at.padded is not None
