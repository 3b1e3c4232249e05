"""What a file really is, by its first bytes; people rename files, and downloads go wrong."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that is given to us by mistake or under another name.

    Attributes:
        what: reads well behind "it is".
        hint: the next step to take.
    """

    what: str
    hint: str
    is_torch: bool = False


_TORCH_HINT = "if it was saved by `torch.save`, give it the suffix `.pt` and use `net2net import --weights`"
_KINDS: tuple[tuple[bytes, FileKind], ...] = (
    (b"PK\x03\x04", FileKind("a zip archive, as `torch.save` writes", _TORCH_HINT, is_torch=True)),
    (b"\x80", FileKind("a Python pickle, as `torch.save` writes", _TORCH_HINT, is_torch=True)),
    (b"version https://git-lfs", FileKind("a Git LFS pointer, not the file itself", "fetch it with `git lfs pull`")),
    (b"\x89HDF", FileKind("an HDF5 file", "convert it to safetensors with the program that wrote it")),
    (b"\x93NUMPY", FileKind("a numpy array", "save a dictionary of arrays with `safetensors.numpy.save_file`")),
    (b"GGUF", FileKind("a GGUF file", "convert it to safetensors with the program that wrote it")),
    (b"<", FileKind("a web page or XML", "the download went wrong; fetch the file again")),
)


def recognise(head: bytes) -> FileKind | None:
    """The kind of file that starts with `head`, or None for anything else, safetensors included."""
    if looks_like_safetensors(head):
        return None
    return next((kind for magic, kind in _KINDS if head.startswith(magic)), None)


def looks_like_safetensors(head: bytes) -> bool:
    """Whether `head` is a header length below 2⁴⁰ and an opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and head[5:8] == bytes(3)
