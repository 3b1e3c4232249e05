"""What a student's metadata says, and that its reader trusts nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from net2net_cli.checkpoint.lineage import UNKNOWN_SHA256, Step, late_lineage, read_lineage, student_metadata
from net2net_cli.checkpoint.safetensors_file import write_checkpoint
from net2net_cli.errors import CheckpointError

FIRST = Step("widen", {"widths": {"conv1": "2x", 'naïve "layer"': 8}}, 0, True, "a" * 64, "0.1.0")
LAST = Step("deepen", {"layers": ["conv1"], "noise": 0.1}, None, False, UNKNOWN_SHA256, "0.2.0")


def test_a_history_comes_back_as_it_was_written() -> None:
    assert read_lineage(student_metadata({}, "{}", [FIRST, LAST], {})) == [FIRST, LAST]


def test_a_checkpoint_that_was_never_grown_has_none() -> None:
    assert read_lineage({"format": "pt"}) == []


def test_the_teachers_own_words_are_carried_over_and_its_stale_entries_are_not() -> None:
    teacher = {
        "format": "np",
        "license": "MIT",
        "net2net.spec": "old",
        "net2net.lineage": "old",
        "net2net.future": "old",
        "head.weight": "embed.weight",
        "gone.weight": "embed.weight",
    }
    stale = {"head.weight": "embed.weight", "gone.weight": "embed.weight"}
    metadata = student_metadata(teacher, "{}", [FIRST], {"head.weight": "embed.weight"}, teacher_aliases=stale)
    assert metadata.pop("net2net.lineage").startswith("[{")
    assert metadata == {"format": "pt", "license": "MIT", "net2net.spec": "{}", "head.weight": "embed.weight"}


def test_the_digest_of_the_teacher_is_filled_in_when_it_is_known(tmp_path: Path) -> None:
    steps = [FIRST, LAST, replace(LAST, operation="widen")]
    digest = hashlib.sha256(b"teacher").hexdigest()
    metadata = student_metadata({}, "{}", steps, {})
    write_checkpoint(tmp_path / "s", [], metadata, late=late_lineage(steps, lambda: digest))
    with safe_open(tmp_path / "s", "numpy") as file:
        written = read_lineage(file.metadata())
    assert [step.teacher_sha256 for step in written] == ["a" * 64, digest, digest]
    assert [step.arguments for step in written] == [step.arguments for step in steps]


def test_even_an_argument_that_is_not_unicode_can_be_written(tmp_path: Path) -> None:
    step = replace(FIRST, arguments={"like": "\udcff"})
    write_checkpoint(tmp_path / "s", [], student_metadata({}, "{}", [step], {}))
    with safe_open(tmp_path / "s", "numpy") as file:
        assert read_lineage(file.metadata()) == [step]


def test_the_text_does_not_depend_on_the_order_of_arguments() -> None:
    turned = replace(FIRST, arguments={"b": 1, "a": 2}), replace(FIRST, arguments={"a": 2, "b": 1})
    texts = {student_metadata({}, "{}", [step], {})["net2net.lineage"] for step in turned}
    assert len(texts) == 1


RECORD = json.loads(student_metadata({}, "{}", [FIRST], {})["net2net.lineage"])[0]


def changed(**fields: object) -> str:
    return json.dumps([{**RECORD, **fields}])


def test_a_key_of_a_later_version_is_passed_over() -> None:
    assert read_lineage({"net2net.lineage": changed(host="?")}) == [FIRST]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "not a list"),
        ("[1]", r"\[0\]` is not an object"),
        ("[{}]", r"\[0\]\.operation` is missing"),
        (changed(operation=3), r"\[0\]\.operation` is 3; a text is needed"),
        (changed(arguments=[]), r"arguments` is \[\]"),
        (changed(seed=True), "seed` is True"),
        (changed(seed=0.5), "seed` is 0.5"),
        (changed(exact=1), "exact` is 1"),
        (changed(teacher_sha256="abc"), "not a SHA-256"),
        (changed(tool_version=None), "tool_version` is None"),
    ],
    ids=range(12),
)
def test_a_malformed_history_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_lineage({"net2net.lineage": text})
