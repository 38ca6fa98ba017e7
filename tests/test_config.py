"""What a run is: a sentence for each mistake in it, a docstring for each field, and who may go on with it."""

import ast
import dataclasses
import functools
import importlib
import inspect
import math
import pathlib
import re
import typing

import pytest
from settings import change, sentence, valid

from t5like import config
from t5like.cli import COMMANDS
from t5like.commands.generate import GenerateOptions
from t5like.commands.models import FillOptions
from t5like.config.conditions import field_types
from t5like.config.sampling import Sampling
from t5like.errors import did_you_mean
from t5like.runs.changes import acquire
from t5like.runs.directory import RunDirectory

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
CONFIG_FILES = sorted(pathlib.Path(config.__file__).parent.glob("[a-z]*.py"))
OPTIONS = sorted({command.options for command in COMMANDS.values()}, key=lambda kind: kind.__name__)


CHECKS = [
    ("model.embed", 0, "must be above 0"),
    ("model.heads", -1, "must be above 0"),
    ("model.kv", 0, "must be above 0"),
    ("model.mlp", 0, "must be above 0"),
    ("model.vocab", 0, "must be above 0"),
    ("model.norm_epsilon", 0.0, "must be above 0"),
    ("model.embedding_deviation", 0.0, "must be above 0"),
    ("model.rotary_base", 10.0, "has no effect with model.positions='relative', only with 'rotary'"),
    ("model.token_types", 2, "has no effect with model.family='decoder', only with 'encoder'"),
    ("model.encoder_layers", -1, "give at least one stack a layer"),
    ("model.decoder_layers", 0, "give at least one stack a layer"),
    ("model.dropout", 1.0, "must be at least 0 and below 1"),
    ("model.positions", "learned", "needs model.max_positions"),
    ("model.relative_buckets", 128, "below model.relative_distance=128"),
    ("model.relative_buckets", 2, "must be at least 4"),
    ("model.vocab", 499, "is below the 500 tokens of data.vocabulary; set model.vocab=512"),
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
    ("data.vocabulary.coverage", 0.5, "must lie between 0.98 and 1"),
    ("data.objective.kind", "masked", "needs special tokens: add [MASK] to data.vocabulary.extra"),
    ("data.objective.kind", "span_corruption", "change the layers or the objective"),
    ("optimizer.learning_rate", 0.0, "must be above 0"),
    ("optimizer.hold", 0, "must be above 0"),
    ("optimizer.clip", 0.0, "must be above 0, or None"),
    ("optimizer.warmup", -1, "must not be negative"),
    ("optimizer.weight_decay", -0.1, "must not be negative"),
    ("optimizer.warmup", 2**31, "must be below 2**31"),
    ("train.steps", 2**31, "must be below 2**31"),
    ("data.size_cap", 2**63, "must be a finite number that float32 or int64 can hold"),
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
            "data.vocabulary.path='a.model' has no effect with data.vocabulary.kind='bytes', only with 'file': leave "
            "it at its default, data.vocabulary.path=''.",
        ),
        (
            lambda: config.Source(path="a.txt"),
            "data.sources.N.path='a.txt' is for other sources: set data.sources.N.kind to 'files', or to",
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
        (lambda: config.Objective(density=1.0), "data.objective.density=1.0 must lie between 0 and 1."),
        (lambda: config.Objective(mean_span=0.5), "data.objective.mean_span=0.5 must be at least 1."),
        (lambda: config.Optimizer(schedule="linear", final=-0.1), "optimizer.final=-0.1 must not be negative."),
        (lambda: config.Optimizer(name="lion", beta1=1.0), "optimizer.beta1=1.0 must lie in [0, 1)."),
        (lambda: config.Optimizer(name="lion", beta2=-0.1), "optimizer.beta2=-0.1 must lie in [0, 1)."),
        (
            lambda: change("optimizer", config.Optimizer(schedule="linear", schedule_steps=9)),
            "optimizer.schedule='linear' ends at step 9 with a rate of 0, so the steps up to train.steps=10 would "
            "learn nothing: set optimizer.schedule_steps=10 to stretch it, optimizer.final above 0",
        ),
        (
            lambda: change("optimizer", config.Optimizer(schedule="cosine", warmup=9, schedule_steps=9)),
            "needs 10 steps, but optimizer.schedule_steps=9: raise it, or lower the others.",
        ),
        (
            lambda: change("optimizer", config.Optimizer(schedule="warmup_stable_decay", warmup=6, decay=5)),
            "optimizer.warmup=6 and optimizer.decay=5 needs 11 steps",
        ),
        (lambda: Sampling(temperature=-1.0), "--temperature -1.0 must not be negative."),
        (lambda: Sampling(temperature=1.0, top_k=-1), "--top_k -1 must not be negative."),
        (lambda: Sampling(temperature=1.0, top_p=0.0), "--top_p 0.0 must lie above 0 and not above 1."),
        (lambda: Sampling(temperature=1.0, top_p=1.5), "--top_p 1.5 must lie above 0 and not above 1."),
        (lambda: Sampling(temperature=1.0, min_p=1.1), "--min_p 1.1 must lie between 0 and 1."),
        (lambda: Sampling(temperature=1.0, typical_p=0.0), "--typical_p 0.0 must lie above 0 and not above 1."),
        (lambda: Sampling(repetition_penalty=0.0), "--repetition_penalty 0.0 must be above 0."),
        (lambda: Sampling(no_repeat_ngram_size=-1), "--no_repeat_ngram_size -1 must not be negative."),
        (lambda: GenerateOptions(), "There is nothing to answer: give --prompt, --prompt_file or --held_out."),
        (lambda: GenerateOptions(held_out=-1), "--held_out -1 must not be negative."),
        (lambda: GenerateOptions(prompt=("a",), tokens=0), "--tokens 0 must be above 0."),
        (lambda: GenerateOptions(prompt=("a",), batch=0), "--batch 0 must be above 0."),
        (
            lambda: GenerateOptions(prompt=("a",), seed=-1, sampling=Sampling(temperature=1.0)),
            "generate.seed=-1 must be at least 0 and below 2**31.",
        ),
        (lambda: FillOptions(), 'There is nothing to fill: give --text "The [MASK] sat".'),
        (lambda: FillOptions(text=("[MASK]",), top=0), "--top 0 must be above 0."),
    ],
)
def test_a_check_of_several_fields_names_them(build, expected):
    assert expected in sentence(build)


def test_a_run_may_end_within_its_warmup():
    assert change("optimizer", config.Optimizer(schedule="linear", warmup=11)).optimizer.warmup == 11


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


def claim(folder, **changes):
    return acquire(RunDirectory(folder), valid(**changes))


def test_a_run_goes_on_with_other_logging_but_not_with_another_model(tmp_path):
    more = dataclasses.replace(valid().train, steps=20, non_finite="skip")
    wider = dataclasses.replace(valid().model, embed=16)
    assert claim(tmp_path) == {}
    (tmp_path / "checkpoints" / "3" / "state").mkdir(parents=True)
    assert claim(tmp_path, train=more) == {"train.non_finite": ("stop", "skip"), "train.steps": (10, 20)}
    assert sentence(claim, tmp_path, train=more, model=wider) == (
        f"{tmp_path} belongs to a run with another model.embed (8 there, 16 now): choose another train.directory, "
        "or delete that folder."
    )
    assert RunDirectory(tmp_path).config() == valid(train=more)


def test_a_run_goes_on_with_another_test_split(tmp_path):
    claim(tmp_path)
    (tmp_path / "checkpoints" / "3" / "state").mkdir(parents=True)
    source, *others = valid().data.sources
    other = dataclasses.replace(valid().data, sources=(dataclasses.replace(source, test="b.txt"), *others))
    assert claim(tmp_path, data=other) == {"data.sources.0.test": ("", "b.txt")}


def test_a_run_without_a_checkpoint_gives_way_to_another_config(tmp_path):
    wider = dataclasses.replace(valid().model, embed=16)
    claim(tmp_path)
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)  # one that was never finished
    assert claim(tmp_path, model=wider) == {"model.embed": (8, 16)}
    assert RunDirectory(tmp_path).config().model == wider


def _shown(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _floats() -> list[tuple[type, str]]:
    """All fields of a config and of options that are, or may be, or may hold, floats."""
    modules = [importlib.import_module(f"t5like.config.{file.stem}") for file in CONFIG_FILES]
    kinds = {kind for module in modules for kind in vars(module).values() if dataclasses.is_dataclass(kind)}
    kinds = {kind for kind in {*kinds, *OPTIONS, Sampling} if isinstance(kind, type)}
    fields = ((kind, name, hint) for kind in kinds for name, hint in field_types(kind).items())
    found = [(kind, name) for kind, name, hint in fields if re.search(r"\bfloat\b", _shown(hint))]
    return sorted(found, key=lambda pair: (pair[0].__name__, pair[1]))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_float_of_a_config_or_option_may_be_infinite_or_no_number(value):
    """Each is refused as such, before any other check of its class could take it for a large number."""
    for kind, name in _floats():
        owner = object.__new__(kind)
        plain = {"int": 8, "str": "x", "bool": False}
        for field in dataclasses.fields(kind):
            given = field.default if field.default is not dataclasses.MISSING else plain.get(str(field.type))
            object.__setattr__(owner, field.name, given)
        hint = _shown(field_types(kind)[name])
        object.__setattr__(owner, name, (value,) if hint.startswith("tuple") else value)
        check = functools.partial(config.Groups, head=owner) if kind is config.Group else owner.__post_init__
        assert "must be a finite number" in sentence(check), (kind, name)
