"""Text networks on the command line: imported from a file, looked at, widened, verified, exported to plain PyTorch."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file

from cli.running import expects, run
from net2net_cli import Net2Net

SOURCE = """
import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 7, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
        self.fc = nn.Linear(14, 3)

    def forward(self, words):
        _, (h, _) = self.lstm(self.embed(words))
        return self.fc(torch.cat([h[-2], h[-1]], dim=1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words):
        return self.head(self.norm(self.embed(words)))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "text.py"
    path.write_text(SOURCE)
    return path


def imported(source: Path, name: str) -> Path:
    out = source.with_name("teacher.safetensors")
    done = run("import", f"{source}:{name}", "--input", "11:int64", "-o", out)
    assert done.code == 0, done.err
    return out


def words() -> torch.Tensor:
    return torch.randint(0, 30, (5, 11), generator=torch.Generator().manual_seed(0))


def outputs(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.double().eval()(words())
    return found


def test_an_lstm_behind_an_embedding_is_widened_verified_and_exported(source: Path) -> None:
    teacher, student = imported(source, "Classifier"), source.with_name("student.safetensors")
    seen = {layer["name"]: layer for layer in run("inspect", teacher, "--json").json["layers"]}
    assert [seen[name]["width"] for name in ("embed", "lstm")] == [6, 7]
    done = run("widen", teacher, "lstm=+3", "embed=1.5x", "-o", student, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert done.json["verification"]["error"] <= 1e-12
    assert run("verify", teacher, student, "--device", "cpu", "--train").code == 0
    module = source.with_name("student.py")
    assert run("export", student, "--to", "python", "-o", module).code == 0
    network = runpy.run_path(str(module))["Classifier"]()
    network.load_state_dict(load_file(student), strict=True)
    expected = outputs(Net2Net.load(teacher).to_module())
    assert float((outputs(network) - expected).abs().max() / expected.std()) <= 1e-12


def test_a_tied_head_stays_tied_in_the_file_and_in_the_export(source: Path) -> None:
    teacher, student = imported(source, "Tied"), source.with_name("student.safetensors")
    assert sorted(load_file(teacher)) == ["embed.weight", "norm.bias", "norm.weight"]
    done = run("widen", teacher, "embed=2x", "-o", student, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert done.json["verification"]["error"] <= 1e-12
    module = source.with_name("student.py")
    run("export", student, "--to", "python", "-o", module)
    network = runpy.run_path(str(module))["Tied"]()
    load_model(network, student, strict=True)
    assert network.head.weight is network.embed.weight
    assert float((outputs(network) - outputs(Net2Net.load(teacher).to_module())).abs().max()) <= 1e-12


def test_a_tied_head_is_refused_a_width_that_its_norm_cannot_have(source: Path) -> None:
    teacher = imported(source, "Tied")
    done = run("widen", teacher, "embed=+1", "-o", source.with_name("s.safetensors"))
    expects(done, 4, "`embed` cannot be widened to 7: its channels only grow 6 at a time", "embed=12")


def test_an_embedding_that_is_given_no_integers_says_how_to_give_them(source: Path) -> None:
    done = run("import", f"{source}:Tied", "--input", "11", "-o", source.with_name("t.safetensors"))
    expects(done, 3, "`embed` fails", "--input 16:int64")


def test_a_tied_tensor_may_be_stored_under_its_other_name(source: Path) -> None:
    teacher, other = imported(source, "Tied"), source.with_name("other.safetensors")
    state = load_file(teacher)
    state["head.weight"] = state.pop("embed.weight")
    save_file(state, other, {"format": "pt", "embed.weight": "head.weight"})
    student = source.with_name("student.safetensors")
    spec = teacher.with_suffix(".json")
    done = run("widen", other, "embed=2x", "--spec", spec, "-o", student, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert sorted(load_file(student)) == ["embed.weight", "norm.bias", "norm.weight"]
    network = runpy.run_path(str(source))["Tied"]()
    network.embed, network.norm = torch.nn.Embedding(30, 12), torch.nn.LayerNorm(12)
    network.head.weight = network.embed.weight
    load_model(network, student, strict=True)
    assert float((outputs(network) - outputs(Net2Net.load(teacher).to_module())).abs().max()) <= 1e-12


def test_tensors_that_the_file_ties_and_the_spec_does_not_come_apart_with_a_warning(source: Path) -> None:
    teacher, loose = imported(source, "Tied"), source.with_name("loose.json")
    document = json.loads(teacher.with_suffix(".json").read_text())
    for layer in document["layers"]:
        layer.pop("tied", None)
    loose.write_text(json.dumps(document))
    student = source.with_name("student.safetensors")
    done = run("widen", teacher, "embed=2x", "--spec", loose, "-o", student, "--device", "cpu")
    assert done.code == 0, done.err
    assert "`embed.weight` and `head.weight` are one tensor in the file" in done.err
    assert sorted(load_file(student)) == ["embed.weight", "head.weight", "norm.bias", "norm.weight"]
