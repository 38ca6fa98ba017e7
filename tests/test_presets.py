"""How a config is named, overridden, written and read again."""

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import subprocess
from typing import Any

import pytest
from command_line import CONFIGS, command, environment
from settings import change, sentence, valid

from t5like import config
from t5like.cli import COMMANDS
from t5like.commands import NoOptions
from t5like.commands.generate import GenerateOptions
from t5like.config import presets
from t5like.config.flags import option_flags, parse
from t5like.config.flags import override as read_flags
from t5like.convert.options import ImportOptions

OPTIONS = sorted({command.options for command in COMMANDS.values()}, key=lambda kind: kind.__name__)
PRESETS = sorted(CONFIGS.glob("*.py"))


def override(*flags, kind=NoOptions):
    return read_flags(valid(), kind, flags, "t5like train x")


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.name)
def test_a_preset_loads_and_has_25_to_45_lines(file):
    assert isinstance(presets.load(str(file)), config.Config)
    assert 25 <= len(file.read_text().splitlines()) <= 45


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.name)
def test_a_preset_comes_back_from_json_as_it_was(file, tmp_path):
    settings = presets.load(str(file))
    presets.write(settings, tmp_path)
    assert presets.read(tmp_path) == settings
    assert presets.load(str(tmp_path)) == settings


def test_tuples_none_and_whole_floats_come_back_from_json_as_they_were(tmp_path):
    presets.write(change("optimizer.learning_rate", 1.0), tmp_path)
    file = tmp_path / presets.FILE
    file.write_text(file.read_text().replace('"learning_rate": 1.0', '"learning_rate": 1'))
    again = presets.read(tmp_path)
    assert again == change("optimizer.learning_rate", 1.0)
    assert isinstance(again.data.sources, tuple)
    assert again.optimizer.clip is None
    assert type(again.optimizer.learning_rate) is float


PRESET = """
from t5like.config import *
config = Config(
    model=Model(decoder_layers=1, embed=8, heads=2, kv=4, mlp=16, vocab=512),
    data=Data(store="s", objective=Objective(kind="causal"), vocabulary=Vocabulary(size=400)),
    train=Train(directory="r", steps=1, batch=8),
)
"""
LOADING = """
import sys
from t5like.config import presets
from t5like.errors import UserError

for path in sys.argv[1:]:
    try:
        presets.load(path)
        print("No mistake.")
    except UserError as error:
        print(error)
"""
"""Loads several presets and says what is wrong with each."""


def loaded(*paths: pathlib.Path) -> list[str]:
    """What is said of each preset or run directory by one process of its own, since the tests' check of types would
    come before the config's."""
    done = subprocess.run(
        command(*paths, program=LOADING), capture_output=True, text=True, check=True, env=environment()
    )
    return done.stdout.splitlines()


MISTAKES_OF_PRESETS = [
    ("mlp=16", "mpl=16", "{file}: Model has no field 'mpl'; did you mean 'mlp'?"),
    ("mlp=16", "d_ff=16", "{file}: Model has no field 'd_ff'; here it is model.mlp."),
    ("mlp=16, ", "", "{file}: Model needs 'mlp'."),
    ('"causal"', '"casual"', "data.objective.kind='casual' must be one of 'span_corruption', 'ul2', "),
    ("embed=8", "embed=8.5", "model.embed=8.5 must be of type int."),
    ("embed=8", "embed=True", "model.embed=True must be of type int."),
    (
        "size=400",
        "size=400, extra='[MASK]'",
        "data.vocabulary.extra='[MASK]' must be a tuple, each element of type str.",
    ),
    ("embed=8", "embed=8, dtype='float16'", "model.dtype='float16' must be one of 'float32', 'bfloat16'."),
    (
        "config = Config(",
        "config = Config(rules=Rules(embed='fsdp'),",
        "rules.embed='fsdp' must be a tuple, each element of type str.",
    ),
    ("config = ", "konfig = ", "{file} holds no `config = Config(...)`."),
    ("import *", "import Modell", "{file} is not valid Python: cannot import name 'Modell' from 't5like.config' "),
    ("config = Config(", "config = Config((", "{file} is not valid Python: "),
]


def test_a_mistake_in_a_preset_is_a_sentence(tmp_path):
    files = [tmp_path / f"preset{number}.py" for number in range(len(MISTAKES_OF_PRESETS) + 1)]
    for file, (old, new, _) in zip(files, [("", "", ""), *MISTAKES_OF_PRESETS], strict=True):
        file.write_text(PRESET.replace(old, new))
    for file, said, (_, _, expected) in zip(
        files, loaded(*files), [("", "", "No mistake."), *MISTAKES_OF_PRESETS], strict=True
    ):
        wanted = expected.format(file=file)
        assert said == wanted if wanted.endswith((".", "?")) else said.startswith(wanted), said


MISTAKES_OF_JSON = [
    (("model", "mpl"), 3, "{file}: Model has no field 'mpl'; did you mean 'mlp'?"),
    (("model", "mlp"), None, "{file}: Model.mlp is missing."),
    (("model", "mlp"), "16", "model.mlp='16' must be of type int."),
    (("model",), 3, "{file}: 3 stands where the fields of Model belong."),
    (("data", "sources"), "text", "{file}: 'text' stands where a list belongs."),
    (("data", "sources"), ["text"], "{file}: 'text' stands where the fields of Source belong."),
    (("model", "norm"), "lauer", "model.norm='lauer' must be one of 'rms', 'layer'."),
]


def test_a_mistake_in_json_is_a_sentence(tmp_path):
    folders = [tmp_path / str(number) for number in range(len(MISTAKES_OF_JSON))]
    for folder, (path, value, _) in zip(folders, MISTAKES_OF_JSON, strict=True):
        folder.mkdir()
        presets.write(valid(), folder)
        put(folder / presets.FILE, path, value)
    expected = [
        line.format(file=folder / presets.FILE) for folder, (_, _, line) in zip(folders, MISTAKES_OF_JSON, strict=True)
    ]
    assert loaded(*folders) == expected


def put(file: pathlib.Path, path: tuple[str, ...], value: Any) -> None:
    """Puts a value into a file of JSON at a path; None deletes what is there."""
    tree = node = json.loads(file.read_text())
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    file.write_text(json.dumps(tree))


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_file_that_is_no_json_is_a_sentence(content, tmp_path):
    (tmp_path / presets.FILE).write_bytes(content)
    assert sentence(presets.read, tmp_path).startswith(f"{tmp_path / presets.FILE} is not valid JSON: ")


def test_differences_are_named_with_both_values():
    one_source = dataclasses.replace(valid().data, sources=valid().data.sources[:1], seed=3)
    assert presets.differences(valid(), valid()) == {}
    assert presets.differences(valid(), valid(data=one_source)) == {
        "data.seed": (0, 3),
        **{
            f"data.sources.1.{name}": (value, None)
            for name, value in vars(valid().data.sources[1]).items()
            if value is not None
        },
    }


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--train.steps", "7"], "train.steps", 7),
        (["--train.steps=7"], "train.steps", 7),
        (["--optimizer.learning-rate", "3e-4"], "optimizer.learning_rate", 3e-4),
        (["--optimizer.learning-rate=1"], "optimizer.learning_rate", 1.0),
        (["--data.sources.0.path", "b.txt"], "data.sources.0.path", "b.txt"),
        (["--data.sources.0.path=c-d_e=f.txt"], "data.sources.0.path", "c-d_e=f.txt"),
        (["--data.sources.1.kind", "jsonl", "--data.sources.1.path", "b"], "data.sources.1.path", "b"),
        (["--model.max_positions", "600"], "model.max_positions", 600),
        (["--model.max_positions", "600", "--model.max_positions", "None"], "model.max_positions", None),
        (["--optimizer.clip", "0.5"], "optimizer.clip", 0.5),
        (["--model.gated", "False"], "model.gated", False),
        (["--model.bias=True"], "model.bias", True),
        (["--rules.batch", "data", "fsdp"], "rules.batch", ("data", "fsdp")),
        (["--rules.batch"], "rules.batch", ()),
        (["--mesh.fsdp", "1", "--mesh.data", "-1"], "mesh.data", -1),
    ],
)
def test_a_flag_replaces_the_field_of_its_name_and_no_other(flags, name, value):
    settings, _ = override(*flags)
    assert presets.leaves(settings)[name] == value
    assert presets.differences(valid(), settings).keys() <= {flag.strip("-").split("=")[0] for flag in flags} | {name}


def test_options_of_a_command_stand_beside_the_fields():
    settings, asked = override(
        "--prompt", "a", "--prompt", "b", "--temperature=1", "--top-k=3", "--train.seed", "1", kind=GenerateOptions
    )
    assert asked.prompt == ("a", "b")
    assert asked.sampling.top_k == 3
    assert settings.train.seed == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--train.stesp", "7"], "t5like train x has no flag --train.stesp; did you mean '--train.steps'?"),
        (["--train.stesp=7"], "t5like train x has no flag --train.stesp; did you mean '--train.steps'?"),
        (["--nonsense", "7"], "t5like train x has no flag --nonsense; --help lists them."),
        (["--data.sources.2.path", "a"], "t5like train x has no flag --data.sources.2.path; did you mean "),
        (["--model.embed", "foo"], "--model.embed takes INT, not 'foo'."),
        (["--model.embed=1.5"], "--model.embed takes INT, not '1.5'."),
        (["--model.max_positions", "foo"], "--model.max_positions takes {None}|INT, not 'foo'."),
        (["--optimizer.learning_rate", ""], "--optimizer.learning_rate takes FLOAT, not ''."),
        (
            ["--model.norm", "foo"],
            "invalid choice 'foo' for argument '--model.norm'. Expected one of ('rms', 'layer').",
        ),
        (["--model.gated", "no"], "invalid choice 'no' for argument '--model.gated'."),
        (["--model.embed"], "Missing value for argument '--model.embed'."),
        (["--model.embed", "0"], "model.embed=0 must be above 0."),
        (["7"], "t5like train x has no use for '7': write overrides as --name value."),
    ],
)
def test_a_flag_that_cannot_be_used_is_a_sentence(flags, expected):
    assert sentence(override, *flags).startswith(expected)


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_help_shows_every_flag_with_its_docstring(kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # beyond that tyro writes columns
    shown = io.StringIO()
    of_config = () if kind is ImportOptions else presets.leaves(valid())  # which has no config to override
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as stop:
        override("--help", kind=kind) if of_config else parse(kind, ["--help"], "t5like import")
    assert stop.value.code == 0
    whole = shown.getvalue().splitlines()
    lines = [line.strip("│ ") for line in whole]
    for name in (*of_config, *option_flags(kind)):
        # A line of text that begins with a flag stands further to the right.
        (at,) = (number for number, line in enumerate(whole) if re.match(rf"[│ ]{{0,4}}--{re.escape(name)}( |$)", line))
        text = lines[at].partition("  ")[2] or lines[at + 1]
        assert len(text) > 15, name
        assert not text.startswith("(default"), name


def test_a_strategy_is_named_on_the_command_line_and_its_rules_may_be_replaced():
    settings, _ = override("--rules", "fsdp", "--train.steps", "3", "--rules.kv", "tensor")
    assert settings.rules == dataclasses.replace(config.STRATEGIES["fsdp"], kv=("tensor",))
    assert override("--rules=replicated")[0].rules == config.STRATEGIES["replicated"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--rules", "fspd"), "--rules fspd is no strategy; did you mean 'fsdp'?"),
        (("--rules=x",), "--rules x is no strategy; there are fsdp, fsdp+tensor, replicated, sequence."),
        (("--rules",), "--rules needs a strategy: replicated, fsdp, fsdp+tensor, sequence."),
    ],
)
def test_a_strategy_that_does_not_exist_names_those_that_do(flags, expected):
    assert sentence(lambda: override(*flags)) == expected


def test_a_mesh_axis_that_no_rule_uses_is_refused():
    said = sentence(lambda: override("--rules", "fsdp", "--mesh.tensor", "2"))
    assert said.startswith("mesh.tensor above 1 would have devices do the same work, since no rule splits it")
