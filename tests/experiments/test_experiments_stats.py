from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.answers import claim
from experiments.stats import Outcome, archived, read_results, spread, welch

CPU = {"device": "a processor, 2 cores", "threads": 1, "processes": 1, "torch": "2"}


def outcome(accuracy: list[float], *, losses: list[float] | None = None, every: int = 50) -> Outcome:
    history = tuple(
        {"step": step * every, "accuracy": a, "valid_loss": 1 - a, "cpu_seconds": 2.0 * step, "seconds": 9.0 * step}
        for step, a in enumerate(accuracy)
    )
    return Outcome(history, tuple(losses or [1.0] * 100), 10, CPU)


def test_results_of_the_archive_are_joined_by_newer_ones_and_left_out_where_the_setting_was_another(
    tmp_path: Path,
) -> None:
    old, new = outcome([0.5, 0.6]), outcome([0.5, 0.9])
    archive = tmp_path / "results.json.xz"
    archive.write_bytes(archived({"teacher": {0: old, 1: old}}, "small"))
    result = tmp_path / "seed1" / "teacher" / "result.json"
    result.parent.mkdir(parents=True)
    told = {name: getattr(new, name) for name in ("history", "losses", "parameters", "machine")}
    result.write_text(json.dumps(told), encoding="utf-8")
    assert read_results(tmp_path, archive, "small") == {"teacher": {0: old, 1: new}}
    assert read_results(tmp_path, archive, "large") == {"teacher": {1: new}}


def test_steps_to_an_accuracy_are_those_of_the_first_time_that_it_is_met() -> None:
    found = outcome([0.5, 0.7, 0.6, 0.8])
    assert found.steps_to(0.6) == 50
    assert found.steps_to(0.7, above=True) == 150
    assert found.steps_to(0.9) == 150
    assert found.first(0.9) is None
    assert found.seconds_to(0.8) == 6.0
    assert found.lowest == 0.5


def test_the_dip_is_the_largest_loss_of_the_first_200_steps_over_the_teachers_last() -> None:
    teacher = outcome([0.5, 0.75], losses=[9.0] * 50 + [0.5] * 50)
    student = outcome([0.75, 0.6, 0.7, 0.8, 0.8, 0.1], losses=[1.0] * 90 + [2.0] * 10)
    assert student.dip(teacher) == pytest.approx(0.4 / 0.25)
    assert student.training_dip(teacher) == pytest.approx(2.0 / 0.5)


def test_welchs_test_gives_the_p_of_a_published_example() -> None:
    pytest.importorskip("scipy", reason="needs the extra: pip install '.[experiments]'")
    # https://en.wikipedia.org/wiki/Welch%27s_t-test, example 1: t = −2.46, ν = 25.0, p = 0.021
    first = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
    second = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]
    test = welch(first, second)
    assert test.p == pytest.approx(0.021, abs=5e-4)
    assert test.difference == pytest.approx(20.82 - 22.98667, abs=1e-4)


def test_a_single_value_has_no_p_and_constants_are_told_apart() -> None:
    assert welch([1.0], [2.0, 3.0]).p is None
    assert welch([1.0, 1.0], [2.0, 2.0]).p == 0.0
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1.0


def test_a_spread_is_the_median_between_the_extremes() -> None:
    assert spread([3.0, 1.0, 2.0], ".1f") == "2.0 (1.0…3.0)"
    assert spread([2.0, 2.0], ".0f") == "2"


def good(seed: int) -> list[float]:
    return [0.80, 0.795, 0.86 + seed / 1000]


def late(seed: int) -> list[float]:
    return [0.80, 0.81, 0.82]


def falls(seed: int) -> list[float]:
    return [0.80, 0.78, 0.86 + seed / 1000]


def begins_elsewhere(seed: int) -> list[float]:
    return [0.795, 0.80, 0.86 + seed / 1000]


@pytest.mark.parametrize(
    ("student", "misses"),
    [(good, set()), (late, {"soon"}), (falls, {"holds"}), (begins_elsewhere, {"starts"})],
)
def test_the_claim_holds_only_if_each_part_of_it_does(student: Callable[[int], list[float]], misses: set[str]) -> None:
    pytest.importorskip("scipy", reason="needs the extra: pip install '.[experiments]'")
    scratch = [0.1, 0.5, 0.6, 0.7, 0.8, 0.81, 0.85]
    results = {
        "teacher": {seed: outcome([0.1, 0.80]) for seed in range(4)},
        "scratch-wider": {seed: outcome([*scratch[:-1], 0.85 + seed / 1000]) for seed in range(4)},
        "arm": {seed: outcome(student(seed)) for seed in range(4)},
    }
    found = claim(results, "arm")
    assert found is not None
    assert {name for name in ("starts", "holds", "soon") if not getattr(found, name)} == misses
    assert found.all == (not misses)


def test_a_teacher_that_is_already_beyond_training_from_scratch_is_told_to_be() -> None:
    pytest.importorskip("scipy", reason="needs the extra: pip install '.[experiments]'")
    results = {
        "teacher": {seed: outcome([0.1, 0.9]) for seed in range(3)},
        "scratch-wider": {seed: outcome([0.1, 0.5, 0.8, 0.89 + 0.01 * (seed == 0) + 0.001]) for seed in range(3)},
        "arm": {seed: outcome([0.9, 0.9, 0.95]) for seed in range(3)},
    }
    found = claim(results, "arm")
    assert found is not None
    assert "in 2 of them before its first step" in found.sentence


def test_results_are_found_by_arm_and_seed(tmp_path: Path) -> None:
    place = tmp_path / "seed3" / "teacher"
    place.mkdir(parents=True)
    entry = {"step": 5, "accuracy": 0.5, "valid_loss": 1.0, "seconds": 1.0, "cpu_seconds": 1.0}
    told = {"history": [entry], "losses": [1.0], "parameters": 7, "machine": CPU}
    (place / "result.json").write_text(json.dumps(told))
    found = read_results(tmp_path)
    assert found["teacher"][3].parameters == 7
    assert found["teacher"][3].steps == 5
