"""What a run is: presets, JSON, overrides, and a sentence for each mistake."""

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import pathlib

import pytest
from command_line import CONFIGS, complaint

from t5like import config
from t5like.config import options, presets
from t5like.config.options import FillOptions, GenerateOptions, NoOptions, Sampling
from t5like.config.run_directory import RunDirectory
from t5like.errors import UserError, did_you_mean

PRESETS = sorted(CONFIGS.glob("*.py"))
SETTINGS = (
    "Config",
    "Data",
    "Eval",
    "Mesh",
    "Model",
    "Objective",
    "Optimizer",
    "Rules",
    "Source",
    "Train",
    "Vocabulary",
)
CLASSES = [getattr(config, name) for name in SETTINGS]
OPTIONS = [kind for _, kind in inspect.getmembers(options, dataclasses.is_dataclass)]


def valid(**changes):
    """A complete config; `changes` replace whole groups."""
    groups = {
        "model": config.Model(decoder_layers=1, embed=8, heads=2, kv=4, mlp=16, vocab=512),
        "data": config.Data(
            store="store",
            objective=config.Objective(kind="causal"),
            vocabulary=config.Vocabulary(size=400),
            sources=(config.Source(kind="text", path="a.txt"), config.Source()),
        ),
        "train": config.Train(directory="run", steps=10, batch=8),
    }
    return config.Config(**{**groups, **changes})


def change(name, value):
    """The valid config with the field of a dotted name replaced."""

    def replaced(node, parts):
        inner = replaced(getattr(node, parts[0]), parts[1:]) if parts[1:] else value
        return dataclasses.replace(node, **{parts[0]: inner})

    return replaced(valid(), name.split("."))


def override(*flags, kind=NoOptions):
    return presets.override(valid(), kind, flags, "t5like train x")


def sentence(function, *arguments, **named):
    """What the user is told, in one line that ends as a sentence does."""
    with pytest.raises(UserError) as raised:
        function(*arguments, **named)
    text = str(raised.value)
    assert "\n" not in text
    assert text.endswith((".", "?")), text
    return text


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


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("mlp=16", "mpl=16", "{file}: Model has no field 'mpl'; did you mean 'mlp'?"),
        ("mlp=16, ", "", "{file}: Model needs 'mlp'."),
        ('"causal"', '"casual"', "data.objective.kind='casual' must be one of 'span_corruption', 'causal', 'masked'."),
        ("embed=8", "embed=8.5", "model.embed=8.5 must be of type int."),
        ("embed=8", "embed=True", "model.embed=True must be of type int."),
        ("size=400", "size=400, extra='[MASK]'", "data.vocabulary.extra='[MASK]' must be tuple[str, ...]."),
        ("embed=8", "embed=8, dtype='float16'", "model.dtype='float16' must be one of 'float32', 'bfloat16'."),
        (
            "config = Config(",
            "config = Config(rules=Rules(embed='fsdp'),",
            "rules.embed='fsdp' must be tuple[str, ...].",
        ),
        ("config = ", "konfig = ", "{file} holds no `config = Config(...)`."),
        ("import *", "import Modell", "{file} is not valid Python: cannot import name 'Modell' from 't5like.config' "),
        ("config = Config(", "config = Config((", "{file} is not valid Python: "),
    ],
)
def test_a_mistake_in_a_preset_is_a_sentence(old, new, expected, tmp_path):
    file = tmp_path / "preset.py"
    file.write_text(PRESET)
    assert isinstance(presets.load(str(file)), config.Config)
    file.write_text(PRESET.replace(old, new))
    # In a process of its own, since the tests' own check of types would come before the config's.
    said, expected = complaint("train", file), expected.format(file=file)
    assert said == expected if expected.endswith((".", "?")) else said.startswith(expected)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("model", "mpl"), 3, "{file}: Model has no field 'mpl'; did you mean 'mlp'?"),
        (("model", "mlp"), None, "{file}: Model.mlp is missing."),
        (("model", "mlp"), "16", "model.mlp='16' must be of type int."),
        (("model",), 3, "{file}: 3 stands where the fields of Model belong."),
        (("data", "sources"), "text", "{file}: 'text' stands where a list belongs."),
        (("data", "sources"), ["text"], "{file}: 'text' stands where the fields of Source belong."),
        (("model", "norm"), "lauer", "model.norm='lauer' must be one of 'rms', 'layer'."),
    ],
)
def test_a_mistake_in_json_is_a_sentence(path, value, expected, tmp_path):
    presets.write(valid(), tmp_path)
    file = tmp_path / presets.FILE
    tree = json.loads(file.read_text())
    node = tree
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    file.write_text(json.dumps(tree))
    assert complaint("train", tmp_path) == expected.format(file=file)


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_file_that_is_no_json_is_a_sentence(content, tmp_path):
    (tmp_path / presets.FILE).write_bytes(content)
    assert sentence(presets.read, tmp_path).startswith(f"{tmp_path / presets.FILE} is not valid JSON: ")


CHECKS = [
    ("model.embed", 0, "must be above 0"),
    ("model.heads", -1, "must be above 0"),
    ("model.kv", 0, "must be above 0"),
    ("model.mlp", 0, "must be above 0"),
    ("model.vocab", 0, "must be above 0"),
    ("model.norm_epsilon", 0.0, "must be above 0"),
    ("model.embedding_deviation", 0.0, "must be above 0"),
    ("model.rotary_base", -1.0, "must be above 0"),
    ("model.encoder_layers", -1, "give at least one stack a layer"),
    ("model.decoder_layers", 0, "give at least one stack a layer"),
    ("model.dropout", 1.0, "must be at least 0 and below 1"),
    ("model.positions", "learned", "needs model.max_positions"),
    ("model.relative_buckets", 128, "below model.relative_distance=128"),
    ("model.relative_buckets", 2, "must be at least 4"),
    ("model.vocab", 499, "is below the 500 pieces of data.vocabulary; set model.vocab=512"),
    ("model.max_positions", 511, "lower data.length or raise model.max_positions"),
    ("data.sources", (), "is empty: name at least one source"),
    ("data.store", "", "is empty: name the folder"),
    ("data.length", 7, "must be at least 8"),
    ("data.held_out", 1.0, "must lie between 0 and 1"),
    ("data.held_out", 0.0, "must lie between 0 and 1"),
    ("data.seed", -1, "must be at least 0 and below 2**31"),
    ("data.vocabulary.size", 0, "must be above 0"),
    ("data.vocabulary.train_characters", 0, "must be above 0"),
    ("data.vocabulary.sentinels", -1, "must not be negative"),
    ("data.vocabulary.coverage", 0.5, "must lie between 0.9 and 1"),
    ("data.objective.density", 1.0, "must lie between 0 and 1"),
    ("data.objective.mean_span", 0.5, "must be at least 1"),
    ("data.objective.kind", "masked", "needs a mask: add [MASK] to data.vocabulary.extra"),
    ("data.objective.kind", "span_corruption", "change the layers or the objective"),
    ("optimizer.learning_rate", 0.0, "must be above 0"),
    ("optimizer.learning_rate", float("nan"), "must be above 0"),
    ("optimizer.hold", 0, "must be above 0"),
    ("optimizer.clip", 0.0, "must be above 0, or None"),
    ("optimizer.warmup", -1, "must not be negative"),
    ("optimizer.decay", -1, "must not be negative"),
    ("optimizer.final", -0.1, "must not be negative"),
    ("optimizer.weight_decay", -0.1, "must not be negative"),
    ("optimizer.beta1", 1.0, "must lie in [0, 1)"),
    ("optimizer.beta2", -0.1, "must lie in [0, 1)"),
    ("train.steps", 0, "must be above 0"),
    ("train.batch", 0, "must be above 0"),
    ("train.accumulate", 3, "train.batch=8 is not a multiple of"),
    ("train.log_every", 0, "must be above 0"),
    ("train.save_every", 0, "must be above 0"),
    ("train.keep", 0, "must be above 0"),
    ("train.seed", 2**31, "must be at least 0 and below 2**31"),
    ("train.z_loss", -1.0, "must not be negative"),
    ("train.directory", "", "is empty: name the run directory"),
    ("eval.every", 0, "must be above 0"),
    ("eval.rows", 0, "must be above 0"),
    ("eval.batch", 0, "must be above 0"),
    ("rules.embed", ("fsdb",), "names mesh axis 'fsdb'; there are slice, data, fsdp, sequence, tensor"),
    ("rules.embed", ("fsdp", "fsdp"), "names a mesh axis twice"),
]


@pytest.mark.parametrize(("name", "value", "remedy"), CHECKS, ids=lambda part: str(part)[:40])
def test_a_check_names_the_field_its_value_and_the_remedy(name, value, remedy):
    said = sentence(change, name, value)
    assert remedy in said
    assert name in said
    assert str(value) in said or value in ((), "", ("fsdb",))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: change("mesh", config.Mesh(data=-1)), "mesh {'slice': 1, 'data': -1, 'fsdp': -1, "),
        (lambda: change("mesh", config.Mesh(tensor=0)), "'tensor': 0}: every axis must be above 0"),
        (
            lambda: config.Vocabulary(kind="bytes", size=300),
            "A vocabulary of bytes has 259 pieces and at most 11 sentinels, not data.vocabulary.size=300 and "
            "data.vocabulary.sentinels=100.",
        ),
        (lambda: config.Vocabulary(kind="bytes", size=259, sentinels=12), "and data.vocabulary.sentinels=12."),
        (
            lambda: config.Vocabulary(kind="bytes", size=259, sentinels=0, path="a.model"),
            "data.vocabulary.path='a.model' is for SentencePiece: change the kind or path.",
        ),
        (
            lambda: config.Source(path="a.txt"),
            "data.sources.N.path='a.txt' is for other sources: set data.sources.N.kind to 'text' or 'jsonl'.",
        ),
        (lambda: config.Source(kind="text"), "A source of kind 'text' needs a path: give data.sources.N.path"),
        (
            lambda: dataclasses.replace(valid().model, positions="rotary", kv=3),
            "model.positions='rotary' pairs dimensions: model.kv=3 must be even.",
        ),
        (
            lambda: dataclasses.replace(valid().model, positions="sinusoidal", embed=9),
            "model.positions='sinusoidal' pairs dimensions: model.embed=9 must be even.",
        ),
        (
            lambda: config.Data(store="s", vocabulary=config.Vocabulary(sentinels=27)),
            "data.length=512 has 28 spans but data.vocabulary.sentinels=27: raise data.vocabulary.sentinels",
        ),
        (
            lambda: change("optimizer", config.Optimizer(schedule="cosine", warmup=10)),
            "optimizer.schedule='cosine' with optimizer.warmup=10 and optimizer.decay=0 needs 11 steps, but "
            "train.steps=10: raise it, or lower the others.",
        ),
        (
            lambda: change("optimizer", config.Optimizer(schedule="warmup_stable_decay", warmup=6, decay=5)),
            "optimizer.warmup=6 and optimizer.decay=5 needs 11 steps",
        ),
        (lambda: Sampling(temperature=-1.0), "--temperature -1.0 must not be negative."),
        (lambda: Sampling(top_k=-1), "--top_k -1 must not be negative."),
        (lambda: Sampling(top_p=0.0), "--top_p 0.0 must lie above 0 and not above 1."),
        (lambda: Sampling(top_p=1.5), "--top_p 1.5 must lie above 0 and not above 1."),
        (lambda: GenerateOptions(), "There is nothing to answer: give --prompt, --prompt_file or --held_out."),
        (lambda: GenerateOptions(held_out=-1), "--held_out -1 must not be negative."),
        (lambda: GenerateOptions(prompt=("a",), tokens=0), "generate.tokens=0 must be above 0."),
        (lambda: GenerateOptions(prompt=("a",), batch=0), "generate.batch=0 must be above 0."),
        (lambda: GenerateOptions(prompt=("a",), seed=-1), "generate.seed=-1 must be at least 0 and below 2**31."),
        (lambda: FillOptions(), 'There is nothing to fill: give --text "The [MASK] sat".'),
        (lambda: FillOptions(text=("[MASK]",), top=0), "fill.top=0 must be above 0."),
    ],
)
def test_a_check_of_several_fields_names_them(build, expected):
    assert expected in sentence(build)


def test_a_run_may_end_within_its_warmup():
    assert change("optimizer", config.Optimizer(schedule="linear", warmup=11)).optimizer.warmup == 11


def test_differences_are_named_with_both_values():
    one_source = dataclasses.replace(valid().data, sources=valid().data.sources[:1], seed=3)
    assert presets.differences(valid(), valid()) == {}
    assert presets.differences(valid(), valid(data=one_source)) == {
        "data.seed": (0, 3),
        **{f"data.sources.1.{name}": (value, None) for name, value in vars(valid().data.sources[1]).items()},
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
    settings, asked = override("--prompt", "a", "--prompt", "b", "--top-k=3", "--train.seed", "1", kind=GenerateOptions)
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


def test_a_name_without_a_close_one_lists_those_that_exist():
    assert did_you_mean("zzz", ["b", "a"]) == "; there are a, b."
    assert did_you_mean("trian", ["train", "eval"]) == "; did you mean 'train'?"


@pytest.mark.parametrize("kind", [*CLASSES, *OPTIONS], ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring_of_its_own(kind):
    if kind is config.Config:
        pytest.skip("its fields are the other classes, which have docstrings")
    body = ast.parse(pathlib.Path(inspect.getfile(kind)).read_text()).body
    (tree,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    pairs = list(zip(tree.body, [*tree.body[1:], None], strict=True))
    documented = {
        field.target.id
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert documented == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_help_shows_every_flag_with_its_docstring(kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # beyond that tyro writes columns
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as stop:
        override("--help", kind=kind)
    assert stop.value.code == 0
    lines = [line.strip("│ ") for line in shown.getvalue().splitlines()]
    for name in (*presets.leaves(valid()), *options.flags(kind)):
        (at,) = (number for number, line in enumerate(lines) if line.split(" ")[0] == f"--{name}")
        text = lines[at].partition("  ")[2] or lines[at + 1]
        assert len(text) > 15, name
        assert not text.startswith("(default"), name


def claim(folder, **changes):
    return RunDirectory(folder).claim(valid(**changes))


def test_a_run_goes_on_with_other_logging_but_not_with_another_model(tmp_path):
    more = dataclasses.replace(valid().train, steps=20, non_finite="skip")
    wider = dataclasses.replace(valid().model, embed=16)
    assert claim(tmp_path) == {}
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    assert claim(tmp_path, train=more) == {"train.non_finite": ("stop", "skip"), "train.steps": (10, 20)}
    assert sentence(claim, tmp_path, train=more, model=wider) == (
        f"{tmp_path} belongs to a run with another model.embed (8 there, 16 now): choose another train.directory, "
        "or delete that folder."
    )
    assert RunDirectory(tmp_path).config() == valid(train=more)


def test_a_run_without_a_checkpoint_gives_way_to_another_config(tmp_path):
    wider = dataclasses.replace(valid().model, embed=16)
    claim(tmp_path)
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)  # one that was never finished
    assert claim(tmp_path, model=wider) == {"model.embed": (8, 16)}
    assert RunDirectory(tmp_path).config().model == wider
