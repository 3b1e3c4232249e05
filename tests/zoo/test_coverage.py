"""The coverage sweep: what it makes of results, and a seeded sample of it."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.coverage import checks, network, networks, workers
from benchmarks.coverage.__main__ import main
from benchmarks.coverage.checks import check, rebuilt
from benchmarks.coverage.document import render
from benchmarks.coverage.network import Options, sweep_network
from benchmarks.coverage.progress import Estimate
from benchmarks.coverage.reasons import NO_PLACE, OTHER, OUTPUT, WIDTH, classify
from benchmarks.coverage.records import Attempt, Network, Record, Results, append, archived, code_state, read
from benchmarks.coverage.survey import Refusal, Survey, blocks_of, patience, weighted, wishes
from benchmarks.coverage.teachers import Teacher
from benchmarks.coverage.together import Group, grown, packed
from net2net_cli import Net2Net
from net2net_cli.errors import GrowthRefusedError


class Blocks(nn.Module):
    """A stem, two residual blocks that share one stream, and a head."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.conv2, self.bn2 = nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
            return found

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 4, 3), self.Block(), self.Block()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.b(self.a(torch.relu(self.stem(x)))).mean((2, 3)))
        return found


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    return Teacher.of(Blocks(), [(3, 8, 8)], batch=2)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep's networks are that one."""

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        return Blocks()

    monkeypatch.setattr(network, "make", make)


def swept(folder: Path, options: Options | None = None, before: Results | None = None) -> list[Record]:
    return list(sweep_network("resnet18", folder, options or Options(), before))


def attempts(records: list[Record]) -> list[Attempt]:
    return [one for one in records if isinstance(one, Attempt)]


def changed(student: Net2Net, name: str, tensor: np.ndarray) -> Net2Net:
    tensors = {n: student.tensor(n) for n, *_ in student.graph.tensors()}
    return Net2Net.from_tensors(student.graph, tensors | {name: tensor})


# --- what is asked for ---


def test_every_layer_with_parameters_every_width_and_every_block_is_asked_for(teacher: Teacher) -> None:
    layers = ["stem", *(f"{b}.{n}" for b in "ab" for n in ("conv1", "bn1", "conv2", "bn2")), "head"]
    graph = teacher.net.graph
    assert weighted(graph) == layers
    blocks = blocks_of(teacher.module, teacher.inputs, graph)
    assert blocks == ["a", "b"]
    every = wishes(graph, blocks)
    assert len(every) == 3 * len(layers) + 6 + 2
    assert len(set(every)) == len(every)


def test_layers_that_get_the_same_student_share_it_and_are_each_scrambled(teacher: Teacher) -> None:
    stream = ["stem", "a.conv2", "a.bn2", "b.conv2", "b.bn2"]
    found = Survey(teacher.net)
    assert [found.ask((layer, "2x")) for layer in (*stream, "a.conv1")] == [None] * 6
    assert [[m.wish[0] for m in group.members] for group in found.groups] == [stream, ["a.conv1"]]
    first = found.groups[0]
    assert [m.scrambled for m in first.members] == [(layer,) for layer in stream]
    assert [m.through for m in first.members] == [None, None, "stem", None, "stem"]
    for layer in ("a.conv2", "b.conv2"):  # each asked for by itself is that student
        assert first.split is not None
        alone, shared = teacher.net.widen({layer: "2x"}, split=first.split), grown(teacher.net, [first])
        assert alone.graph == shared.graph
        assert all(np.array_equal(alone.tensor(n), shared.tensor(n)) for n, *_ in shared.graph.tensors())


def test_whole_multiples_are_not_necessary_behind_a_layer_norm(teacher: Teacher) -> None:
    normed = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    survey, whole = Survey(Net2Net.from_module(normed, torch.zeros(2, 4))), "its channels only grow 6 at a time"
    assert survey.explained(Refusal(whole), "0").cause == f"{whole}, behind a layer norm"
    heads = "its channels only grow 3 at a time"
    assert survey.explained(Refusal(heads), "0").cause == heads
    shuffled = "its channels only grow 4 at a time"
    assert Survey(teacher.net).explained(Refusal(shuffled), "stem").cause == shuffled


def test_an_activation_behind_a_rearrangement_alone_is_no_missing_place() -> None:
    class Turned(nn.Module):
        def __init__(self, *, acts: bool) -> None:
            super().__init__()
            self.conv, self.out, self.acts = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), acts

        def forward(self, x: Tensor) -> Tensor:
            turned = self.conv(x).permute(0, 2, 3, 1)
            found: Tensor = self.out(torch.relu(turned) if self.acts else turned)
            return found

    causes = []
    for acts in (True, False):
        net = Net2Net.from_module(Turned(acts=acts), torch.zeros(2, 3, 4, 4))
        refusal = Survey(net).ask(("conv", "deepen"))
        causes.append(None if refusal is None else classify(refusal.cause, refusal.hint))
    assert causes in ([OTHER, NO_PLACE], [None, NO_PLACE])  # refused for want of a rule of ours, or granted


def test_a_tool_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    def loop() -> None:
        with patience(0.05):
            while True:
                pass

    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        loop()


# --- how a student is judged ---


class Steep(nn.Module):
    """A linear layer, and a sine of so many turns that it makes much of the last place of what it is given."""

    def __init__(self, turns: float) -> None:
        super().__init__()
        self.turns, self.linear = turns, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(torch.sin(self.turns * x))
        return found


@pytest.mark.parametrize(("turns", "least", "most"), [(1.0, 1e-12, 1e-12), (1e5, 2e-12, 1e-9), (1e9, 1e-10, 1e-10)])
def test_a_student_may_be_off_by_what_rounding_does_to_the_teacher_and_by_no_more_than_can_be_seen(
    turns: float, least: float, most: float
) -> None:
    assert least <= Teacher.of(Steep(turns), [(4,)]).tolerance <= most


def test_a_student_with_one_wrong_number_is_wrong(teacher: Teacher, tmp_path: Path) -> None:
    student = teacher.net.widen({"a.conv1": "+1"})
    weight = student.tensor("a.conv1.weight").copy()
    weight[2, 1, 1, 1] += 1e-6
    seen = [
        check(teacher, rebuilt(one, tmp_path), [["a.conv1"]], train=True)[0]
        for one in (student, changed(student, "a.conv1.weight", weight))
    ]
    assert [one.outcome for one in seen] == ["exact", "wrong"]
    assert list(tmp_path.iterdir()) == []


def test_a_student_of_another_output_shape_is_wrong(teacher: Teacher) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).double()
    assert check(teacher, other, [["1"]], train=True)[0].outcome == "wrong"


def test_a_layer_that_does_not_matter_makes_its_check_insensitive(tmp_path: Path) -> None:
    class Deaf(Blocks):
        def forward(self, x: Tensor) -> Tensor:
            stem = torch.relu(self.stem(x))
            found: Tensor = self.head(self.b(stem).mean((2, 3)) + 1e-12 * self.a(stem).mean((2, 3)))
            return found

    torch.manual_seed(0)
    deaf = Teacher.of(Deaf(), [(3, 8, 8)], batch=2)
    student = rebuilt(deaf.net.widen({"a.conv1": "2x", "b.conv1": "2x"}), tmp_path)
    seen = check(deaf, student, [["a.conv1"], ["b.conv1"], ["a.conv1", "b.conv1"], []], train=True)
    assert [one.outcome for one in seen] == ["insensitive", "exact", "insensitive", "insensitive"]


@pytest.mark.parametrize(
    ("cause", "hint", "kind"),
    [
        ("it is the network's output `out`", None, OUTPUT),
        ("`chunk` needs 2 sections of equal size", "use `a=8`, or another width that fits", WIDTH),
        ("`chunk` needs 2 sections of equal size", "name the other layer of the pair as well", OTHER),
        ("`add` (add) comes before any activation", "name the block", NO_PLACE),
        ("it is not implemented", None, OTHER),
        ("its channels only grow 2 at a time", "use `a=8`, or another width that fits", WIDTH),
        ("its channels only grow 8 at a time, behind a layer norm", "use `a=16`, or another width that fits", OTHER),
    ],
)
def test_only_known_reasons_are_necessary_and_a_refused_width_must_name_the_next(
    cause: str, hint: str | None, kind: str
) -> None:
    assert classify(cause, hint) == kind


# --- many growths in one student ---


def groups(teacher: Teacher, *layers: str, growth: str = "+1") -> list[Group]:
    """Growths of one kind, as if all shared alike."""
    found = Survey(teacher.net)
    assert [found.ask((layer, growth)) for layer in layers] == [None] * len(layers)
    return [replace(group, split="equal") for group in found.groups]


def test_growths_that_copy_nothing_in_common_are_made_together(teacher: Teacher) -> None:
    made = groups(teacher, "stem", "a.conv1", "b.conv1")
    assert [[one.layer for one in pack] for pack in packed(made, 10**9)] == [["stem", "a.conv1", "b.conv1"]]
    assert len(list(packed(made, -1))) == 3
    student = grown(teacher.net, made)
    assert [student.tensor(f"{n}.weight").shape[0] for n in ("stem", "a.conv1", "b.conv1")] == [5, 7, 7]


def test_growths_of_the_same_channels_are_made_apart(teacher: Teacher) -> None:
    (first,), (again,) = groups(teacher, "a.conv1"), groups(teacher, "a.bn1")
    assert not first.independent(again)
    assert len(list(packed([first, again], 10**9))) == 2


def test_two_branches_of_a_concatenation_are_independent_although_one_layer_reads_both(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1), nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.out(torch.relu(torch.cat([self.a(x), self.b(x)], 1)).mean((2, 3)))
            return found

    torch.manual_seed(0)
    made = groups(Teacher.of(Branches(), [(3, 4, 4)], batch=2), "a", "b")
    assert ("out.weight", 1) in made[0].copied.keys() & made[1].copied.keys()
    assert made[0].independent(made[1])


def test_one_wrong_growth_among_many_is_found_and_the_others_are_exact(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widen = Net2Net.widen

    def careless(net: Net2Net, layers: dict[str, str], **how: object) -> Net2Net:
        student = widen(net, layers, **how)  # type: ignore[arg-type]
        if "a.conv1" not in layers:
            return student
        weight = student.tensor("a.conv2.weight").copy()
        weight[0, 0] += 0.01
        return changed(student, "a.conv2.weight", weight)

    made = groups(teacher, "stem", "a.conv1", "b.conv1")
    monkeypatch.setattr(Net2Net, "widen", careless)
    answers = list(network.Bench(teacher, tmp_path, {}).answers(made))
    assert {one.layer: one.outcome for one in answers} == {"stem": "exact", "a.conv1": "wrong", "b.conv1": "exact"}
    assert {one.layer: one.together for one in answers}["a.conv1"] == 1


def test_growths_that_the_tool_refuses_together_are_made_apart(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widen = Net2Net.widen

    def one_at_a_time(net: Net2Net, layers: dict[str, str], **how: object) -> Net2Net:
        if len(layers) > 1:
            raise GrowthRefusedError("not together")
        return widen(net, layers, **how)  # type: ignore[arg-type]

    made = groups(teacher, "stem", "a.conv1", "b.conv1")
    monkeypatch.setattr(Net2Net, "widen", one_at_a_time)
    answers = list(network.Bench(teacher, tmp_path, {}).answers(made))
    assert [(one.layer, one.outcome, one.together) for one in answers] == [
        (layer, "exact", 1) for layer in ("stem", "a.conv1", "b.conv1")
    ]


# --- a network ---


@pytest.mark.usefixtures("small")
def test_every_attempt_at_a_network_has_one_result(tmp_path: Path) -> None:
    first, *rest = swept(tmp_path)
    assert isinstance(first, Network)
    assert (first.layers, first.attempts, first.unread, first.failed) == (10, 38, (), None)
    made = attempts(rest)
    assert len(made) == 38
    refused = {(one.layer, one.cause) for one in made if one.outcome == "refused"}
    behind = "`add` (add) comes before any activation"
    assert refused == {
        ("head", "it is the network's output `out`"),
        ("head", "the network's output (`head`) comes before any activation"),
        ("a.conv2", behind),
        ("b.conv2", behind),
    }
    assert {one.outcome for one in made} == {"exact", "refused"}
    assert all(one.error is not None and one.error <= 1e-12 for one in made if one.outcome == "exact")


@pytest.mark.usefixtures("small")
def test_a_resumed_sweep_makes_what_is_missing(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    append(results, swept(tmp_path, Options(sample=10)))
    before = read(results)
    assert len(before.attempts) == 10
    rest = swept(tmp_path, before=before)
    assert len(attempts(rest)) == 28
    append(results, rest)
    assert swept(tmp_path, before=read(results)) == []


@pytest.mark.usefixtures("small")
def test_a_resumed_sweep_scrambles_no_layer_that_was_seen_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = swept(tmp_path, Options(growths=("2x",)))
    before = Results()
    for record in records:
        before.add(record)
    scrambled: list[str] = []

    def noted(teacher: Teacher, module: nn.Module, layer: str, *, enough: float) -> float:
        scrambled.append(layer)
        return 1.0

    monkeypatch.setattr(checks, "sensitivity", noted)
    more = Options(growths=("1.5x",))
    exact = [one for one in attempts(swept(tmp_path, more, before)) if one.outcome == "exact"]
    assert exact
    assert scrambled == []
    swept(tmp_path, replace(more, again=True), before)
    assert {one.layer for one in exact} <= set(scrambled)


@pytest.mark.usefixtures("small")
def test_results_of_other_code_are_made_again_unless_they_are_reused(tmp_path: Path) -> None:
    before = Results()
    for record in swept(tmp_path, Options(growths=("2x",))):
        before.add(replace(record, code="an older one"))
    assert len(attempts(swept(tmp_path, Options(growths=("2x",)), before))) == 10
    assert attempts(swept(tmp_path, Options(growths=("2x",), reuse=True), before)) == []


@pytest.mark.usefixtures("small")
def test_refusals_can_be_asked_for_alone(tmp_path: Path) -> None:
    made = attempts(swept(tmp_path, Options(only_refusals=True)))
    assert {(one.layer, one.outcome) for one in made} == {(n, "refused") for n in ("head", "a.conv2", "b.conv2")}


@pytest.mark.usefixtures("small")
def test_a_sample_is_the_same_for_a_seed_and_holds_no_more_than_is_asked(tmp_path: Path) -> None:
    def drawn(seed: int) -> set[tuple[str, str]]:
        return {(one.layer, one.growth) for one in attempts(swept(tmp_path, Options(sample=5, seed=seed)))}

    assert len(drawn(0)) == 5
    assert drawn(0) == drawn(0) != drawn(1)


def test_a_network_that_cannot_be_made_or_imported_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str) -> nn.Module:
        raise NotImplementedError("it holds\nan op of its own")

    monkeypatch.setattr(network, "make", make)
    (only,) = swept(tmp_path)
    assert isinstance(only, Network)
    assert only.failed == "NotImplementedError: it holds an op of its own"


@pytest.mark.usefixtures("small")
def test_what_crashes_is_counted_and_the_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Net2Net, "save", _failing(Net2Net.save))
    made = attempts(swept(tmp_path, Options(growths=("2x",))))
    assert {one.outcome for one in made} == {"crashed", "refused"}
    assert {one.cause for one in made if one.outcome == "crashed"} == {"OSError: no space"}


def _failing(save: object) -> object:
    def write(self: Net2Net, path: Path, **how: object) -> None:
        if path.name == "student.safetensors":
            raise OSError("no space")
        save(self, path, **how)  # type: ignore[operator]

    return write


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep's network holds a convolution in four groups."""

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        convolutions = nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 12, 1, groups=4), nn.ReLU()
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))

    monkeypatch.setattr(network, "make", make)


@pytest.mark.usefixtures("grouped")
def test_the_width_that_a_refusal_names_is_attempted_as_well(tmp_path: Path) -> None:
    made = {(one.layer, one.growth): one for one in attempts(swept(tmp_path)) if one.layer != "6"}
    # 13 channels are not four equal groups, and neither are 18; 16, 20 and 24 are.
    for layer in ("0", "2"):
        widths = [w for name, w in made if name == layer and w not in ("deepen", "repeat")]
        assert sorted(widths) == ["+1", "1.5x", "2x", "=16", "=20"]
        assert {made[layer, w].named for w in ("+1", "1.5x")} == {"=16", "=20"}
        assert {made[layer, w].outcome for w in ("+1", "1.5x")} == {"refused"}
        assert {made[layer, w].outcome for w in ("2x", "=16", "=20")} == {"exact"}


@pytest.mark.usefixtures("grouped")
def test_a_refusal_whose_named_width_was_not_attempted_is_asked_for_again(tmp_path: Path) -> None:
    before = Results()
    for record in swept(tmp_path):
        if not (isinstance(record, Attempt) and record.growth == "=16"):
            before.add(record)
    # Asked for again are the refusals too, since it is they that name it.
    again = [(one.layer, one.growth) for one in attempts(swept(tmp_path, before=before))]
    assert sorted(again) == [(layer, growth) for layer in ("0", "2") for growth in ("+1", "=16")]
    for record in attempts(swept(tmp_path, before=before)):
        before.add(record)
    assert swept(tmp_path, before=before) == []


# --- results and the document ---


def test_a_torn_last_line_is_passed_over_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    one, other = (Attempt("resnet18", layer, "2x", "exact") for layer in ("conv1", "fc"))
    append(path, [one, other])
    path.write_text(path.read_text()[:-20])
    assert list(read(path).attempts.values()) == [one]
    append(path, [other])
    assert list(read(path).attempts.values()) == [one, other]


def test_newer_results_replace_those_of_the_archive(tmp_path: Path) -> None:
    path, archive = tmp_path / "results.jsonl", tmp_path / "results.jsonl.xz"
    one, other = (Attempt("resnet18", layer, "2x", "exact") for layer in ("conv1", "fc"))
    archive.write_bytes(archived(Results(attempts={("resnet18", a.layer, "2x"): a for a in (one, other)})))
    assert list(read(path, archive).attempts.values()) == [one, other]
    append(path, [replace(other, outcome="refused")])
    assert [a.outcome for a in read(path, archive).attempts.values()] == ["exact", "refused"]


def test_a_damaged_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"kind": "attempt", "netw\n{}\n')
    with pytest.raises(ValueError, match="line 1 is no result"):
        read(path)


def test_what_was_known_of_a_network_whose_process_ended_is_still_known() -> None:
    results = Results()
    results.add(Network("resnet18", (3, 64, 64), layers=41, attempts=149, code="now"))
    results.add(Network("resnet18", (3, 64, 64), failed="its process ended with -9", code="now"))
    assert results.networks["resnet18"].layers == 41
    assert results.networks["resnet18"].failed == "its process ended with -9"


GIVEN = (
    Network("resnet18", (3, 64, 64), layers=3, attempts=4, labels=0.02, depgraph=0.09, code="now"),
    Attempt("resnet18", "conv1", "2x", "exact", error=2e-15, moved=1.5, code="now"),
    Attempt("resnet18", "bn1", "2x", "exact", error=3e-15, moved=1.2, through="conv1", code="now"),
    Attempt("resnet18", "fc", "2x", "refused", cause="it is the network's output `out`", code="now"),
    Attempt("resnet18", "conv1", "deepen", "wrong", error=0.25, moved=0.0, code="before"),
    Network("vit_b_16", (3, 64, 64), layers=9, attempts=90, depgraph="ValueError: no", unread=("token",), code="now"),
    Attempt("vit_b_16", "layers.0.ln", "2x", "refused", cause="it is not known", code="now"),
    Attempt("vit_b_16", "layers.1.ln", "2x", "refused", cause="it is not known", code="now"),
    Attempt("vit_b_16", "head", "+1", "insensitive", error=0.0, moved=1e-12, code="now"),
    Network("swin_t", (3, 64, 64), failed="TraceError: `roll`", code="now"),
)


def document(*records: Record) -> str:
    results = Results()
    for record in records:
        results.add(record)
    return render(results, ["resnet18", "swin_t", "vgg11", "vit_b_16"], "now")


def lines(text: str, heading: str) -> list[str]:
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith(("| ", "- ", "Of ", "With ", "None", "1 ", "4 "))]


def test_the_document_says_what_was_run_and_no_more() -> None:
    assert lines(document(*GIVEN), "What was run") == [
        "Of 4 networks 1 were run whole, 1 in part, 1 not at all; 1 could not be imported. "
        "What follows speaks of what was run.",
        "- whole: `resnet18`",
        "- in part (attempts made, of all): `vit_b_16` (3 of 90)",
        "- not at all: `vgg11`",
        "- not imported: `swin_t`",
        "With now.",
        "4 attempts were compared by running them, at most 1 growths in one student.",
        "1 of the attempts were made with an older state: before.",
    ]


def test_the_document_counts_outcomes_and_the_share_of_refusals() -> None:
    found = lines(document(*GIVEN), "Outcomes")
    assert found[0] == "| growth | exact | insensitive | wrong | crashed | refused |"
    assert "| `2x` | 2 | 0 | 0 | 0 | 3 |" in found
    assert "| **all** | 2 | 1 | 1 | 0 | 3 |" in found
    assert found[-1].startswith("Of the 5 attempts")  # without the output, and without the norm
    assert "2 were refused (40.00 %: " in found[-1]


def test_the_document_says_what_became_of_the_widths_that_refusals_name_and_leaves_them_out_of_the_share() -> None:
    refusal = Attempt("resnet18", "conv1", "+1", "refused", cause="it needs 4 sections of equal size", code="now")
    told = replace(refusal, hint="use `conv1=12`", named="=12")
    followed = Attempt("resnet18", "conv1", "=12", "exact", error=1e-15, moved=1.0, code="now")
    silent = replace(refusal, growth="1.5x", cause="it is not known")
    for records, became in (((told, silent), "1 not made"), ((told, followed, silent), "1 exact")):
        text = document(*GIVEN, *records)
        assert "Of the 7 attempts" in text
        assert (
            f"1 of these 4 refusals name a width that fits. Growing the layer to the width that is named: {became}."
            in text
        )
    assert "| another width that a refusal names | 1 | 0 | 0 | 0 | 0 |" in text


def test_the_document_tells_where_rounding_explains_more_than_usual() -> None:
    loose = Attempt("resnet18", "conv1", "+1", "exact", error=1.4e-12, allowed=6e-12, moved=1.0, code="now")
    assert "1 of them, at `resnet18`, were off by more than 1e-12 and by 1.4e-12 at most" in document(*GIVEN, loose)
    assert "by more than 1e-12 and" not in document(*GIVEN)


def test_the_document_hides_nothing_that_went_wrong() -> None:
    text = document(*GIVEN)
    assert "| resnet18 | `conv1` | deepen | 1 | off by 0.25 |" in lines(text, "Wrong and crashed")
    assert "| vit_b_16 | `head` | +1 | 1 | scrambling moves the output by 1e-12 |" in lines(text, "Insensitive")
    others = lines(text, "Refusals that are not known to be necessary")
    assert "| vit_b_16 | `layers.*.ln` | 2x | 2 | it is not known |" in others
    networks_said = lines(text, "Networks")
    assert "| resnet18 | 3 | 4 of 4 | 2 |  | 1 |  | 1 |  |  |  |  |  | 2.5e-01 | 20 | 90 |" in networks_said
    assert "- `swin_t`: TraceError: `roll`" in networks_said
    assert "- `vit_b_16`: its spec lacks token" in networks_said
    assert "- `vit_b_16`: Torch-Pruning: ValueError: no" in networks_said


def test_the_same_results_give_the_same_document_whatever_their_order(tmp_path: Path) -> None:
    shuffled = (GIVEN[0], *GIVEN[4:1:-1], GIVEN[1], GIVEN[9], GIVEN[5], *GIVEN[8:5:-1])
    assert document(*shuffled) == document(*GIVEN)


def test_nothing_wrong_is_said_to_be_none() -> None:
    text = document(GIVEN[0], GIVEN[1])
    assert lines(text, "Wrong and crashed") == lines(text, "Insensitive") == ["None."]


def test_the_command_line_renders_what_is_there_and_fails_where_a_student_is_wrong(tmp_path: Path) -> None:
    results, written = tmp_path / "results.jsonl", tmp_path / "docs" / "COVERAGE.md"
    append(results, GIVEN)
    arguments = ["--render", "--results", str(results), "--document", str(written)]
    assert main(arguments) == 1
    assert "off by 0.25" in written.read_text()
    append(results, [replace(GIVEN[4], outcome="exact", error=0.0)])
    assert main(arguments) == 0
    assert main(["--networks", "nothing*", *arguments]) == 2


def test_what_is_left_is_estimated_from_the_students_made_and_the_sizes_of_networks() -> None:
    estimate = Estimate({"a": 10.0, "b": 30.0}, 1)
    assert estimate.seconds(5.0) is None
    estimate.students("a", 100)
    estimate.students("a", 75)
    # 25 students of size 20 took 50 s; 75 of that size are left, and 100 of size 40.
    assert estimate.seconds(50.0) == pytest.approx(50 * (75 * 20 + 100 * 40) / (25 * 20))


class Silent:
    """Who listens and says nothing."""

    def __init__(self) -> None:
        self.gone: list[str] = []

    def students(self, network: str, left: int) -> None:
        pass

    def finished(self, network: str) -> None:
        self.gone.append(network)


def test_a_process_that_dies_is_told_and_takes_no_other_with_it() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=os._exit, args=(9,))
    process.start()
    there.close()
    running, listener = workers.Running({here: ("resnet18", process)}), Silent()
    (said,) = workers._heard(here, running, listener)
    assert said == Network("resnet18", (3, 64, 64), failed="its process ended with 9", code=code_state())
    assert running == {}
    assert listener.gone == ["resnet18"]


def test_a_sweep_in_processes_of_its_own_is_kept_rendered_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, written = tmp_path / "results.jsonl", tmp_path / "COVERAGE.md"
    arguments = ["--networks", "squeezenet1_1", "--layers", "classifier.1", "features.0", "--growths", "2x"]
    arguments += ["--results", str(results), "--document", str(written)]
    assert main(arguments) == 0
    assert [one.outcome for one in read(results).attempts.values()] == ["refused", "exact"]
    assert "`squeezenet1_1` (2 of 108)" in written.read_text()
    once = results.read_text()
    assert main([*arguments, "--minutes", "0"]) == 0
    assert results.read_text() == once
    assert main(arguments) == 0
    assert [line for line in results.read_text()[len(once) :].splitlines() if '"attempt"' in line] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["COVERAGE.jsonl.xz", "COVERAGE.md", "results.jsonl"]
    results.unlink()  # as in a fresh clone, where the document and what it was made from are all that there is
    text = written.read_text().partition("## Networks")[0]  # where times are told, which were taken again
    assert main(arguments) == 0
    assert not any('"attempt"' in line for line in results.read_text().splitlines())
    assert written.read_text().startswith(text)
    assert "2 attempts at 1 networks" in capsys.readouterr().out


# --- the networks themselves ---


def test_all_classification_segmentation_and_video_networks_have_a_setting() -> None:
    names = networks.names()
    assert len(names) == len(set(names)) == 95
    assert all(networks.setting(name).shape for name in names)
    assert networks.matching(["vgg1?"]) == ["vgg11", "vgg13", "vgg16", "vgg19"]


def test_mvit_is_made_for_small_videos() -> None:
    with torch.no_grad():
        assert networks.make("mvit_v2_s").eval()(torch.zeros(1, 3, 4, 64, 64)).shape == (1, 10)


SAMPLE = {"mobilenet_v3_small": 8, "squeezenet1_1": 6, "mnasnet0_5": 4, "resnet18": 2}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_the_sweep_is_exact_or_refused(name: str, tmp_path: Path) -> None:
    first, *rest = sweep_network(name, tmp_path, Options(sample=SAMPLE[name], seed=3))
    assert isinstance(first, Network)
    assert (first.failed, first.unread, first.code) == (None, (), code_state())
    made = attempts(rest)
    assert len(made) == SAMPLE[name]
    assert {one.outcome for one in made} <= {"exact", "refused"}, made
    assert sum(one.outcome == "exact" for one in made) >= len(made) / 2
