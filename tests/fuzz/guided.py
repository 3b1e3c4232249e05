"""Inputs guided by coverage (atheris), for the readers by themselves.

The commands are fuzzed by structure (`driver.py`); here single readers meet bytes that nobody thought of, thousands of
times a second, and inputs that reach new lines are kept and changed further.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

MISSING = "atheris is not installed: readers are not fuzzed by coverage (`pip install -e '.[fuzz]'`)"


def spec(data: bytes) -> None:
    """A spec, which is written again if it can be read."""
    from net2net_cli.architecture.spec_file import from_json_text, to_json_text

    graph = from_json_text(data.decode("utf-8", "replace"), where="it")
    if from_json_text(to_json_text(graph), where="it") != graph:
        raise AssertionError("a spec reads differently once it was written")


def header(data: bytes) -> None:
    """The header of a safetensors file."""
    from net2net_cli.checkpoint.safetensors_header import decode_header

    decode_header(Path("it"), data, 100)


def state(data: bytes) -> None:
    """A PyTorch file."""
    from net2net_cli.checkpoint.torch_file import load_state_dict

    path = Path("w.pt")
    path.write_bytes(data)
    load_state_dict(path)


def opcodes(data: bytes) -> None:
    """The pickle inside of one."""
    from io import BytesIO

    from net2net_cli.checkpoint.pickles import read_pickle
    from net2net_cli.checkpoint.torch_records import DamagedPickleError, PickleRefusedError
    from net2net_cli.errors import CheckpointError

    try:
        read_pickle(BytesIO(data), len(data))
    except (DamagedPickleError, PickleRefusedError) as error:
        raise CheckpointError(str(error)) from error


def recipe(data: bytes) -> None:
    """A recipe."""
    from net2net_cli.growth.recipe import parse_recipe

    parse_recipe(data.decode("utf-8", "replace"), where="it")


def lineage(data: bytes) -> None:
    """A history, which is written again if it can be read."""
    from net2net_cli.checkpoint.lineage import LINEAGE_KEY, read_lineage, student_metadata

    student_metadata({}, "", read_lineage({LINEAGE_KEY: data.decode("utf-8", "replace")}), {})


def index(data: bytes) -> None:
    """An index of shards."""
    from net2net_cli.checkpoint.sharded import read_index

    path = Path("w.json")
    path.write_bytes(data)
    for file in read_index(path).values():
        if file.parent != path.parent:
            raise AssertionError(f"the index leads to {file}")


READERS: dict[str, Callable[[bytes], None]] = {
    reader.__name__: reader for reader in (spec, header, state, opcodes, recipe, lineage, index)
}


def seeds() -> dict[str, list[bytes]]:
    """Sound inputs for each reader."""
    from fuzz.kinds import WIDEN_RECIPE, plain_checkpoint, state
    from fuzz.pickles import STORAGE, mapping, saved, tensor, text, zipped
    from fuzz.seeds import residual
    from net2net_cli.architecture.spec_file import to_json_text

    held = state()
    pickled = mapping([(text("fc.weight"), tensor("0", (2, 3), (3, 1)))])
    checkpoint = plain_checkpoint(held)
    step = (
        b'[{"operation": "widen", "arguments": {"layers": {"a": "2x"}}, "seed": 0, "exact": true, "teacher_sha256": "'
    )
    return {
        "spec": [to_json_text(residual()).encode()],
        "header": [checkpoint[8 : 8 + int.from_bytes(checkpoint[:8], "little")]],
        "state": [zipped(pickled, {"0": STORAGE}), saved(held), saved(held, zip_file=False)],
        "opcodes": [pickled],
        "recipe": [WIDEN_RECIPE],
        "lineage": [step + b"0" * 64 + b'", "tool_version": "0.1.0"}]'],
        "index": [b'{"metadata": {}, "weight_map": {"fc.weight": "a-1.safetensors", "fc.bias": "a-2.safetensors"}}'],
    }


MODULES = (
    *("architecture.spec_file", "checkpoint.safetensors_header", "checkpoint.torch_file", "checkpoint.lineage"),
    *("checkpoint.sharded", "growth.recipe"),
)
"""What is watched for lines that were not reached before."""


def guided(name: str, seconds: int, folder: Path, artifacts: Path) -> None:
    """Fuzz one reader in this process, which atheris ends; an input that breaks it lies in `artifacts` then."""
    import atheris

    from net2net_cli.errors import Net2NetError

    with atheris.instrument_imports(include=["net2net_cli"]):
        for module in MODULES:
            import_module(f"net2net_cli.{module}")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds()[name]):
        (corpus / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        with suppress(Net2NetError):
            READERS[name](data)

    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=4096", "-max_len=20000"]
    options = [f"-artifact_prefix={artifacts}/{name}-", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([name, *limits, *options, str(corpus)], one)
    atheris.Fuzz()


def apart(name: str, minutes: float, artifacts: Path) -> bool:
    """Fuzz one reader in a process of its own, and tell how it went."""
    asked = ["--reader", name, "--minutes", str(minutes), "--artifacts", str(artifacts)]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.guided", *asked], stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )
    runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "?")
    print(f"  {name:<9} {runs:>9} inputs{'' if done.returncode == 0 else ', and broke'}", flush=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return done.returncode == 0


def main(argv: list[str] | None = None) -> int:
    """Fuzz every reader, each for its share of the time; 1 if one broke."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.guided", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for all of them together (default: %(default)s)")
    parser.add_argument("--reader", choices=READERS, help="this one alone, in this process")
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz_output"), help="default: %(default)s")
    given = parser.parse_args(argv)
    if find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 0
    artifacts = given.artifacts.resolve()
    artifacts.mkdir(parents=True, exist_ok=True)
    if given.reader:
        with TemporaryDirectory(prefix="net2net-guided-") as folder, chdir(folder):
            guided(given.reader, max(1, int(60 * given.minutes)), Path(folder), artifacts)
    print("readers by themselves, guided by coverage:")
    sound = [apart(name, given.minutes / len(READERS), artifacts) for name in READERS]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
