"""What goes with a student whose training goes on: the optimizer's state, and what a training script should know.

`STUDENT.optim.pt` is the teacher's training file, grown; `STUDENT.train.json` says which parameters are new, by what
their learning rates are to be multiplied, and which of their slices are copies of one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from net2net_cli.checkpoint.publish import Companion
from net2net_cli.growth.training_state import hand_off

if TYPE_CHECKING:
    from net2net_cli.model import Net2Net
    from net2net_cli.runtime.training_file import TrainingFile

STATE, HAND_OFF = ".optim.pt", ".train.json"


def training_files(student: Net2Net, file: TrainingFile, out: Path) -> tuple[Companion, Companion]:
    """The files that go with a student.

    Args:
        student: grown from the network that `file` belongs to.
        file: as `read_training_file` reads it.
        out: the student's place.
    """
    from net2net_cli.runtime.training_file import grown_file, parameter_order, write_training_file

    def write_state(path: Path) -> None:
        order = parameter_order(student.graph, trust_code=student.trust_code)
        write_training_file(path, grown_file(file, student.plans, order))

    def write_hand_off(path: Path) -> None:
        text = json.dumps({**hand_off(student.plans), "rule": file.rule}, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")

    return Companion(out.with_suffix(STATE), write_state), Companion(out.with_suffix(HAND_OFF), write_hand_off)
