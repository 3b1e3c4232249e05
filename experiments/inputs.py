"""Training images as a file of inputs, for `net2net deepen --inputs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.data import load
from experiments.errors import exit_code_of
from experiments.options import parse

COUNT = 256


def main(argv: Sequence[str] | None = None) -> int:
    """Takes the arguments of `experiments.train` for the data, and `-o FILE.npz`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.inputs", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options, rest = parser.parse_known_args(argv)

    def run() -> None:
        source = parse([*rest, "--checkpoint", "none", "-o", "none"]).source
        x, _ = load(source).train.__getitems__([(number, 0) for number in range(COUNT)])
        np.savez(options.out, x=x.numpy())

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
