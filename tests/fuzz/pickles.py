"""PyTorch files that want to run code, to take all memory, or to be read for ever; and damaged ones."""

from __future__ import annotations

import collections
import io
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from fuzz.documents import scribbled
from fuzz.values import NAMES, name, number

GLOBALS = [
    *("os system", "posix system", "builtins exec", "builtins eval", "builtins open", "builtins getattr", "nt system"),
    *(
        "subprocess Popen",
        "subprocess check_output",
        "trap PWNED",
        "torch load",
        "torch.hub load",
        "pathlib Path.touch",
    ),
    *("torch.jit._script unpack", "torch._utils _rebuild_wrapper_subclass", "torch.serialization load", "pickle loads"),
    *(
        "torch.storage _load_from_bytes",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_qtensor",
        "shutil rmtree",
    ),
    *(
        "torch._utils _rebuild_meta_tensor_no_storage",
        "torch._utils _rebuild_sparse_tensor",
        "numpy.core.multiarray scalar",
    ),
    *(
        "torch._utils _rebuild_device_tensor_from_numpy",
        "torch._utils _rebuild_nested_tensor",
        "torch Tensor",
        "torch Size",
    ),
    *(
        "builtins bytearray",
        "builtins set",
        "builtins complex",
        "collections Counter",
        "_codecs encode",
        "torch device",
    ),
    *(
        "torch FloatTensor",
        "torch zeros",
        "torch.nn.parameter Parameter",
        "torch.nn.modules.linear Linear",
        "net2net_cli x",
    ),
    *(
        "torch FloatStorage",
        "torch.storage UntypedStorage",
        "collections OrderedDict",
        "torch float32",
        "\x1b[31m \x1b[0m",
    ),
]

ARGUMENTS = [
    "touch PWNED",
    "import os; os.system('touch PWNED')",
    10**12,
    10**9,
    2**40,
    b"x",
    None,
    (3, 3),
    (10**6, 10**6),
]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Called:
    """Pickled as a call of something by name."""

    def __init__(self, of: str, *arguments: Any) -> None:
        self.of, self.arguments = of, arguments

    def write(self) -> bytes:
        """The opcodes."""
        module, name = self.of.split(" ")
        return b"c" + f"{module}\n{name}\n".encode() + pickle.dumps(self.arguments, 2)[2:-1] + b"R"


def mapping(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Opcodes of a dictionary."""
    return b"\x80\x02}(" + b"".join(key + value for key, value in entries) + b"u."


def text(value: str) -> bytes:
    """Opcodes of a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def tensor(key: str, sizes: tuple[Any, ...], strides: tuple[Any, ...], *, offset: Any = 0, elements: Any = 6) -> bytes:
    """Opcodes of a tensor on the storage `key`."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + value(elements) + b"tQ"
    rest = value(offset) + value(sizes) + value(strides) + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def value(plain: Any) -> bytes:
    """Opcodes of a plain value."""
    return pickle.dumps(plain, 2)[2:-1]


def zipped(data: bytes, storages: dict[str, bytes], *, how: int = zipfile.ZIP_STORED, folder: str = "archive") -> bytes:
    """A file as `torch.save` lays it out."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", how) as archive:
        archive.writestr(f"{folder}/data.pkl", data)
        archive.writestr(f"{folder}/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"{folder}/data/{key}", content)
        archive.writestr(f"{folder}/version", "3\n")
    return held.getvalue()


STORAGE = struct.pack("<6f", *range(6))


def calling(chance: random.Random) -> bytes:
    """Something is called that a state dict has no need of."""
    called = Called(chance.choice(GLOBALS), *chance.choices(ARGUMENTS, k=chance.choice([0, 1, 1, 2, 4])))
    entries = [(text("fc.weight"), tensor("0", (2, 3), (3, 1))), (text("x"), called.write())]
    chance.shuffle(entries)
    return zipped(mapping(entries), {"0": STORAGE})


def enormous(chance: random.Random) -> bytes:
    """A tensor that is far larger than what is stored."""
    sizes: list[Any] = [0, 1, 2, 3, 6, 2**16, 20_000, 10**6, 2**31, 2**40, 2**62, 2**63 - 1, -1]
    shape = tuple(chance.choice(sizes) for _ in range(chance.choice([1, 2, 2, 3])))
    strides = tuple(chance.choice([0, 0, 1, 3, 2**40, -1]) for _ in shape)
    body = tensor(
        *("0", shape, strides),
        offset=chance.choice([0, 0, 1, 10**9, 2**62, -1]),
        elements=chance.choice([6, 6, 10**9, 2**40, 2**63, -1]),
    )
    return zipped(mapping([(text("fc.weight"), body)]), {"0": chance.choice([STORAGE, b"", STORAGE[:5], STORAGE * 9])})


def bomb(chance: random.Random) -> bytes:
    """Little that unfolds into much."""
    match chance.randrange(5):
        case 0:
            return zipped(
                mapping([]) + bytes(chance.choice([10**6, 2 * 10**8])), {"0": STORAGE}, how=zipfile.ZIP_DEFLATED
            )
        case 1:
            content = {"0": bytes(chance.choice([10**6, 2 * 10**8]))}
            data = mapping([(text("fc.weight"), tensor("0", (5000, 10_000), (10_000, 1), elements=5 * 10**7))])
            return zipped(data, content, how=zipfile.ZIP_DEFLATED)
        case 2:  # a tuple in a tuple, each twice: its hash, or its text, takes 2^n steps
            doubled = b")" + b"q\x00h\x00\x86" * chance.choice([5, 60])
            entry = chance.choice([(doubled, b"N"), (text("a"), doubled), (b"(" + doubled + b"t", text("a"))])
            return zipped(mapping([entry]), {})
        case 3:
            doubled = b"]" + b"q\x00]q\x01h\x00ah\x00a" * chance.choice([5, 60])
            return zipped(mapping([(text("model"), mapping([(text("a"), doubled)])[2:-1])]), {})
        case _:
            depth = chance.choice([100, 5000, 200_000])
            return zipped(mapping([(text("a"), b"(" * depth + b"t" * depth)]), {})


def saved(content: Any, *, zip_file: bool = True) -> bytes:
    """As torch saves it."""
    held = io.BytesIO()
    torch.save(content, held, _use_new_zipfile_serialization=zip_file)
    return held.getvalue()


def odd_state(chance: random.Random, state: dict[str, Any]) -> Any:
    """State dicts that are sound pickles, but not what is expected."""
    some = list(state)
    match chance.randrange(9):
        case 0:
            return {**state, name(chance): chance.choice([None, 3, "x", {}, [1], torch.ones(2)])}
        case 1:
            return {(name(chance) if key == chance.choice(some) else key): tensor for key, tensor in state.items()}
        case 2:
            wrapped: Any = state
            for _ in range(chance.choice([1, 2, 3, 9])):
                wrapped = {
                    chance.choice(["model", "state_dict", "ema", *NAMES[:4]]): wrapped,
                    name(chance): number(chance),
                }
            return wrapped
        case 3:
            return {
                **state,
                chance.choice(some): chance.choice([torch.ones(()), torch.zeros(0, 5), torch.ones(3).to_sparse()]),
            }
        case 4:
            return {**state, chance.choice(some): torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)}
        case 5:
            return chance.choice(
                [None, 3, [], [state], torch.ones(3), "x", (state,), {1: torch.ones(1)}, {None: state}]
            )
        case 6:
            return {f"module.{key}": tensor for key, tensor in state.items()} | {"epoch": name(chance)}
        case 7:
            return collections.OrderedDict(
                (key, torch.nn.Parameter(t) if t.is_floating_point() else t) for key, t in state.items()
            )
        case _:
            return {**state, chance.choice(some): torch.full((2, 3), chance.choice([float("nan"), float("inf"), 1e38]))}


def rezipped(data: bytes, chance: random.Random) -> bytes:
    """The entries of an archive under other names, twice, compressed or damaged."""
    held = io.BytesIO()
    odd = [
        "../../outside",
        "/tmp/PWNED",
        "C:\\x",
        "archive/../../x",
        "\x1b[31m",
        "archive/data.pkl",
        "archive/constants.pkl",
    ]
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(held, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if chance.random() < 0.1:
                content = scribbled(content, chance)
            if chance.random() < 0.1:
                new.writestr(chance.choice(odd), content)
            if chance.random() < 0.95:
                new.writestr(entry, content, chance.choice([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED]))
    return held.getvalue()


def legacy(chance: random.Random, state: dict[str, Any]) -> bytes:
    """The format of torch before 1.6: pickles one behind the other, and then the storages."""
    if chance.random() < 0.5:
        return scribbled(saved(state, zip_file=False), chance)
    called = Called(chance.choice(GLOBALS), *chance.choices(ARGUMENTS, k=chance.choice([0, 1, 2])))
    pickles = [value(LEGACY_MAGIC), value(1001), value({"little_endian": True}), called.write(), value(["0"])]
    chance.shuffle(pickles[1:])
    return (
        b"".join(b"\x80\x02" + p + b"." for p in pickles) + struct.pack("<q", chance.choice([6, 2**40, -1])) + STORAGE
    )


def tar(first: str, *, link: bool) -> bytes:
    """The format of torch before 0.1.10, whose members are unpacked; the first one's name makes it look otherwise."""
    held = io.BytesIO()
    how = {"format": tarfile.USTAR_FORMAT, "errors": "surrogateescape", "encoding": "utf-8"}
    with tarfile.open(fileobj=held, mode="w", **how) as archive:  # type: ignore[call-overload]
        for title in (first, "storages", "tensors", "pickle", "../../outside"):
            entry = tarfile.TarInfo(title)
            data = pickle.dumps(0, 2)
            if link and title == "storages":
                entry.type, entry.linkname, data = tarfile.SYMTYPE, "/etc/passwd", b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return held.getvalue()


def hostile_torch_file(state: dict[str, Any], chance: random.Random) -> bytes:
    """One of these."""

    def tarred() -> bytes:
        return tar(chance.choice(["\udc80\x02", "PK\x03\x04"]), link=chance.random() < 0.3)

    made: list[Callable[[], bytes]] = [
        *(lambda: calling(chance), lambda: enormous(chance), lambda: bomb(chance), tarred),
        *(lambda: saved(odd_state(chance, state)), lambda: legacy(chance, state)),
        *(lambda: rezipped(saved(state), chance), lambda: scribbled(saved(state), chance)),
        lambda: scribbled(calling(chance), chance),
    ]
    return chance.choice(made)()
