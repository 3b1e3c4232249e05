"""The layout that CONTRIBUTING describes, read from the imports themselves."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import net2net_cli

PACKAGE = Path(net2net_cli.__file__).parent
BELOW = {
    "errors": set(),
    "version": set(),
    "architecture": {"errors"},
    "channels": {"architecture", "errors"},
    "checkpoint": {"architecture", "errors"},
    "growth": {"channels", "checkpoint", "architecture", "errors"},
    "model_file": {"growth", "checkpoint", "architecture", "errors", "version"},
    "networks": set(),
    "checking": set(),
    "report": set(),
    "runtime": {"checking", "growth", "channels", "checkpoint", "architecture", "errors"},
}
"""What each part may import at all; parts that are not listed may import everything."""

WITHOUT_TORCH = (
    *("architecture", "channels", "growth", "checkpoint", "report", "cli"),
    *("model_file.py", "model.py", "publishing.py", "checking.py", "correspondence.py", "replaying.py", "proof.py"),
)


def files(part: str) -> list[Path]:
    place = PACKAGE / part
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def imported(tree: ast.AST, *, only_top: bool = False) -> set[str]:
    nodes = tree.body if only_top and isinstance(tree, ast.Module) else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("part", BELOW)
def test_imports_go_downwards_only(part: str) -> None:
    place = part if (PACKAGE / part).is_dir() else f"{part}.py"
    for file in files(place):
        for name in imported(ast.parse(file.read_text())):
            if name.startswith("net2net_cli."):
                target = name.split(".")[1]
                assert target == part or target in BELOW[part], f"{file.name} imports {name}"


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_no_torch_at_the_top_of_parts_that_work_without_it(part: str) -> None:
    for file in files(part):
        for name in imported(ast.parse(file.read_text()), only_top=True):
            assert name.split(".")[0] not in {"torch", "torchvision"}, f"{file.name} imports {name}"


def test_only_runtime_and_networks_import_torch_when_they_are_imported() -> None:
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0]
        if part not in {"runtime", "networks"}:
            top = {name.split(".")[0] for name in imported(ast.parse(file.read_text()), only_top=True)}
            assert not top & {"torch", "torchvision"}, file


def test_importing_the_package_and_its_class_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = "from net2net_cli import Net2Net, __version__; print(__version__)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == net2net_cli.__version__


def test_the_public_surface_is_what_the_docstring_says() -> None:
    assert sorted(net2net_cli.__all__) == ["Net2Net", "__version__"]
    public = [name for name in vars(net2net_cli.Net2Net) if not name.startswith("_")]
    assert sorted(public) == [
        "apply",
        "deepen",
        "exact",
        "exactness",
        "from_module",
        "from_tensors",
        "grow",
        "load",
        "prove",
        "publication",
        "random_pad",
        "rounds",
        "save",
        "tensor",
        "tensor_info",
        "to_module",
        "verify",
        "widen",
        "write",
    ]


def test_every_error_of_the_project_derives_from_its_base_class() -> None:
    from net2net_cli import errors

    raised = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(raised) > 5
    assert all(issubclass(e, errors.Net2NetError) for e in raised)


def test_no_file_of_the_package_is_longer_than_400_lines() -> None:
    long = {f.name: n for f in PACKAGE.rglob("*.py") if (n := len(f.read_text().splitlines())) > 400}
    assert not long, long
