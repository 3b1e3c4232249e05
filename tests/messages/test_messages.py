"""Every message that a user can meet is documented with an example, and the examples say what the document says."""

from __future__ import annotations

import re

import pytest

from messages.births import all_births, unknown_sayers
from messages.document import DOCUMENT, all_areas, code, document, escaped, in_table, new_keys, section
from messages.example import Area, Outcome
from messages.guards import GUARDS

MAKE = "run `make messages`, look at what it changed in docs/MESSAGES.md, and commit that"
ADD = "give it an example in tests/messages/areas/, a command that ends with it, and run `make messages`"
BIRTHS = {birth.key: birth for birth in all_births()}


@pytest.fixture(scope="module")
def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of what examples do on purpose
@pytest.mark.parametrize("area", all_areas(), ids=lambda area: area.name)
def test_examples_end_with_messages_in_good_form_which_the_document_quotes(area: Area, text: str) -> None:
    outcomes = [example.run() for example in area.examples]
    for outcome, new in zip(outcomes, new_keys(outcomes), strict=True):
        check_form(outcome, area.code)
        assert new, f"`{outcome.example.command}` shows no message that the examples before it do not: leave it out"
    assert section(area, outcomes).rstrip() in text, f"{area.title}: {MAKE}"


def check_form(outcome: Outcome, exit_code: int) -> None:
    """What every message owes to its reader."""
    told, command = outcome.told, outcome.example.command
    assert told is not None, f"`{command}` ended without a message of ours: {outcome.said}"
    assert outcome.code == told.exit_code == exit_code, f"`{command}` ended with {outcome.code}"
    shows = exit_code == 1 or command == "net2net env"  # what was found, although the answer is no
    assert shows or not outcome.out, f"`{command}` wrote data"
    assert told.hint, f"`{told.message}` has no hint"
    check_words(told.message)
    check_words(told.hint)


def check_words(words: str) -> None:
    assert re.match(r"[a-z0-9`*.]|LAYER", words), f"begins with a capital: {words}"
    assert not words.endswith("."), f"ends with a full stop: {words}"
    assert words.count("`") % 2 == 0, f"a backtick is open: {words}"
    internals = r"Traceback|<class |object at 0x|Batch\(|net2net_cli\.(?!networks\b)|\.part\b"
    assert not re.search(internals, words), f"names what is ours alone: {words}"


@pytest.mark.parametrize("key", [key for key in BIRTHS if key not in GUARDS])
def test_every_message_has_an_example(key: str, text: str) -> None:
    forms = (f"#### {escaped(key)}\n", f"It ends: {code(key)}\n", f"| {in_table(key)} ", f" {in_table(key)} ")
    place = f"{BIRTHS[key].file}:{BIRTHS[key].first}"
    assert any(form in text for form in forms), f"{place} says `{key}`, which docs/MESSAGES.md does not know: {ADD}"


def test_the_callers_of_every_function_that_makes_messages_of_words_are_looked_at() -> None:
    assert unknown_sayers() == [], "add them to _SAYERS in tests/messages/births.py"


@pytest.mark.parametrize("key", GUARDS)
def test_what_is_said_to_be_told_to_nobody_still_stands_in_the_code(key: str) -> None:
    assert key in BIRTHS, f"`{key}` is gone: take it out of tests/messages/guards.py"


def test_the_document_holds_its_areas_and_nothing_else(text: str) -> None:
    parts = re.split(r"(?m)^(?=##+ )", re.sub(r"(?m)^####", "‖", text))
    found = {part.splitlines()[0]: re.sub("‖", "####", part) for part in parts}
    assert document({area.name: found[f"### {area.title}"] for area in all_areas()}) == text, MAKE
