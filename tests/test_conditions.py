"""Fields that have an effect only beside some values of others: refused without it, and the help says so."""

import contextlib
import dataclasses
import functools
import io
import json
import re

import pytest
from settings import change, sentence, valid

from t5like import config
from t5like.cli import COMMANDS
from t5like.commands import NoOptions
from t5like.commands.data import InspectOptions, PrepareOptions
from t5like.commands.generate import GenerateOptions
from t5like.commands.plan import PlanOptions
from t5like.commands.tasks import PredictOptions
from t5like.commands.vocabulary import VocabularyOptions
from t5like.commands.why import WhyOptions
from t5like.config import presets
from t5like.config.conditions import AppliesTo, conditions
from t5like.config.flags import override
from t5like.config.sampling import Sampling
from t5like.convert.options import ExportOptions, ImportOptions

TFDS = dict(kind="tfds", dataset="a")
SOURCES = (config.Source(kind="text", path="a"), config.Source(kind="jsonl", path="b"))
CAUSAL = config.Objective(kind="causal")
PAIRS = config.Objective(kind="sequence_to_sequence")
AB = ("a", "b")
CHAT, TEXT = dict(kind="chat"), dict(kind="text")
TASKED = config.Source(kind="jsonl", path="a", task=config.Task(kind="text"))
TWO_PARTS = (config.Source(kind="jsonl", path="a", fields=("a", "b")),)
SAMPLED = Sampling(temperature=1.0)


def model(**fields):
    return config.Model(**{**dict(decoder_layers=1, embed=8, heads=2, kv=4, mlp=16, vocab=512), **fields})


def encoder(**fields):
    return model(**{**dict(decoder_layers=0, encoder_layers=1), **fields})


def data(**fields):
    return config.Data(**{"store": "s", "objective": CAUSAL, **fields})


def pairs(**fields):
    return data(**{"objective": PAIRS, "sources": TWO_PARTS, "target_length": 8, **fields})


def course(**fields):
    return config.Train(**{**dict(directory="d", steps=1, batch=1), **fields})


def asked(**fields):
    return GenerateOptions(**({"prompt": ("a",)} if "held_out" not in fields else {}), **fields)


OPTIMIZER, OBJECTIVE, VOCABULARY, SOURCE = config.Optimizer, config.Objective, config.Vocabulary, config.Source
TASK = config.Task
TABLE = [
    (TASK, "second", "b", TEXT, dict(kind="pair", labels=AB)),
    (TASK, "context", "b", dict(kind="chat"), dict(kind="span")),
    (TASK, "target", "b", CHAT, TEXT),
    (TASK, "prompt", "b", CHAT, TEXT),
    (TASK, "candidates", ("b",), TEXT, dict(kind="choice")),
    (TASK, "labels", AB, TEXT, dict(kind="tag")),
    (TASK, "words", ("c", "d"), TEXT, dict(kind="classify", labels=AB)),
    (TASK, "multi_label", True, TEXT, dict(kind="classify", labels=AB)),
    (TASK, "unanswerable", True, TEXT, dict(kind="span", context="b")),
    (TASK, "overlap", 5, TEXT, dict(kind="span", context="b")),
    *((TASK, name, "b {content}", TEXT, CHAT) for name in ("system", "user", "assistant")),
    (TASK, "few_seed", 5, TEXT, dict(kind="text", few=3)),
    (SOURCE, "fields", AB, dict(kind="jsonl", path="a", task=TASK(kind="text")), dict(kind="jsonl", path="a")),
    (
        SOURCE,
        "template",
        ("{text}",),
        dict(kind="jsonl", path="a", task=TASK(kind="text")),
        dict(kind="jsonl", path="a"),
    ),
    (
        config.Data,
        "held_out_test",
        0.1,
        dict(store="s"),
        dict(store="s", objective=PAIRS, sources=(TASKED,), target_length=8),
    ),
    # class, field, a value, what makes it idle, what makes it active
    (OPTIMIZER, "hold", 5, dict(schedule="linear"), dict(schedule="inverse_sqrt")),
    (OPTIMIZER, "decay", 5, dict(schedule="cosine"), dict(schedule="warmup_stable_decay")),
    (OPTIMIZER, "final", 0.1, dict(schedule="constant"), dict(schedule="linear")),
    (OPTIMIZER, "final", 0.1, dict(schedule="inverse_sqrt"), dict(schedule="cosine")),
    (OPTIMIZER, "schedule_steps", 5, dict(schedule="inverse_sqrt"), dict(schedule="warmup_stable_decay")),
    (OPTIMIZER, "beta1", 0.8, dict(name="adafactor"), dict(name="adamw")),
    (OPTIMIZER, "beta2", 0.8, dict(name="adafactor"), dict(name="lion")),
    (OPTIMIZER, "momentum", 0.9, dict(name="adamw"), dict(name="muon")),
    (model, "relative_buckets", 16, dict(positions="rotary"), dict(positions="relative")),
    (model, "relative_distance", 64, dict(positions="sinusoidal"), dict(positions="relative")),
    (model, "relative_per_layer", True, dict(positions="rotary"), dict(positions="relative")),
    (model, "rotary_base", 5e5, dict(positions="relative"), dict(positions="rotary")),
    (model, "rotary_scaling", "linear", dict(positions="relative"), dict(positions="rotary")),
    (model, "rotary_factor", 2.0, dict(positions="rotary"), dict(positions="rotary", rotary_scaling="linear")),
    *[
        (
            model,
            name,
            2.0 if name != "rotary_length" else 512,
            dict(positions="rotary", rotary_scaling="linear"),
            dict(positions="rotary", rotary_scaling="llama3"),
        )
        for name in ("rotary_low", "rotary_high", "rotary_length")
    ],
    (encoder, "labels", 2, dict(head="span"), dict(head="token")),
    (encoder, "head_bias", False, dict(head="vocabulary"), dict(head="span")),
    (encoder, "problem_type", "regression", dict(head="token", labels=1), dict(head="sequence", labels=1)),
    (encoder, "pooling", "mean", dict(head="token", labels=2), dict(head="none")),
    (encoder, "pooler", True, dict(head="vocabulary"), dict(head="sequence", labels=1)),
    (encoder, "output_transform", True, dict(head="none"), dict(head="vocabulary")),
    (encoder, "output_bias", True, dict(head="span"), dict(head="vocabulary")),
    (encoder, "token_types", 2, dict(decoder_layers=1), dict()),
    (OBJECTIVE, "density", 0.3, dict(kind="causal"), dict(kind="masked")),
    (OBJECTIVE, "mean_span", 5.0, dict(kind="masked"), dict(kind="span_corruption")),
    (OBJECTIVE, "sentinels", False, dict(kind="prefix"), dict(kind="span_corruption")),
    (OBJECTIVE, "denoisers", config.UL2, dict(kind="span_corruption"), dict(kind="ul2")),
    (OBJECTIVE, "words", "chinese", dict(kind="masked"), dict(kind="masked", whole_words=True)),
    (OBJECTIVE, "suffix_first_rate", 0.5, dict(kind="causal"), dict(kind="fill_in_the_middle")),
    (OBJECTIVE, "stack", "decoder", dict(kind="causal"), dict(kind="span")),
    (OBJECTIVE, "labels", 3, dict(kind="span"), dict(kind="classification")),
    (OBJECTIVE, "candidates", 3, dict(kind="span"), dict(kind="multiple_choice")),
    (OBJECTIVE, "whole_words", True, dict(kind="span_corruption"), dict(kind="next_sentence")),
    (OBJECTIVE, "short_rate", 0.2, dict(kind="masked"), dict(kind="next_sentence")),
    (OBJECTIVE, "middle_rate", 0.9, dict(kind="causal"), dict(kind="fill_in_the_middle")),
    (VOCABULARY, "path", "a", dict(kind="bytes", size=259, sentinels=0), dict(kind="file")),
    (VOCABULARY, "coverage", 0.99, dict(kind="byte_bpe"), dict(kind="wordpiece")),
    (VOCABULARY, "lowercase", True, dict(kind="unigram"), dict(kind="file", path="a")),
    (SOURCE, "dataset", "a", dict(kind="text", path="a"), dict(kind="tfds")),
    (SOURCE, "split", "test", dict(kind="jsonl", path="a"), TFDS),
    (SOURCE, "document", "line", dict(kind="jsonl", path="a"), dict(kind="text", path="a")),
    (SOURCE, "most_bytes", 9, dict(), TFDS),
    (SOURCE, "columns", ("text",), dict(kind="jsonl", path="a"), dict(kind="csv", path="a")),
    (SOURCE, "records", "data", dict(kind="jsonl", path="a"), dict(kind="json", path="a")),
    (SOURCE, "delimiter", ";", dict(kind="tsv", path="a"), dict(kind="csv", path="a")),
    (SOURCE, "quotes", True, dict(kind="jsonl", path="a"), dict(kind="tsv", path="a")),
    (SOURCE, "encoding", "gb18030", dict(kind="parquet", path="a"), dict(kind="files", path="a")),
    (SOURCE, "most_invalid", 0.5, dict(kind="parquet", path="a"), dict(kind="text", path="a")),
    (SOURCE, "on_error", "skip", dict(), TFDS),
    (data, "target_length", 8, dict(), dict(objective=PAIRS, sources=TWO_PARTS)),
    (data, "pack", False, dict(), dict(documents=True)),
    (data, "pack", False, dict(), dict(objective=PAIRS, sources=TWO_PARTS, target_length=8)),
    (data, "temperature", 2.0, dict(), dict(sources=SOURCES)),
    (data, "size_cap", 9, dict(sources=(dataclasses.replace(SOURCES[0], rate=1.0),)), dict(sources=SOURCES)),
    (course, "patience", 2, dict(), dict(best="loss")),
    (course, "skips", 2, dict(), dict(non_finite="skip")),
    (course, "spike_window", 2, dict(), dict(spike_norm=10.0)),
    (PrepareOptions, "processes", 2, dict(runner="DirectRunner"), dict()),
    (PrepareOptions, "runner_options", ("a=b",), dict(), dict(runner="DirectRunner")),
    (InspectOptions, "color", "never", dict(json=True), dict()),
    (functools.partial(WhyOptions, step=1), "color", "never", dict(json=True), dict()),
    (PlanOptions, "price", 1.0, dict(explain=True), dict()),
    (PlanOptions, "tokens", 1e9, dict(explain=True), dict()),
    (PlanOptions, "search", "batch", dict(explain=True), dict()),
    (PlanOptions, "full", True, dict(explain=True), dict()),
    (PlanOptions, "generate", 8, dict(explain=True), dict()),
    (PlanOptions, "prompts", 8, dict(), dict(generate=8)),
    (PlanOptions, "num_beams", 4, dict(), dict(generate=8)),
    (Sampling, "top_k", 3, dict(), dict(temperature=1.0)),
    (Sampling, "top_p", 0.9, dict(), dict(temperature=1.0)),
    (Sampling, "min_p", 0.1, dict(), dict(temperature=1.0)),
    (Sampling, "typical_p", 0.9, dict(), dict(temperature=1.0)),
    (asked, "seed", 1, dict(), dict(sampling=SAMPLED)),
    (asked, "seed", 1, dict(), dict(held_out=2)),
    (asked, "show", 1, dict(), dict(held_out=2)),
    (asked, "tokens", 8, dict(held_out=2), dict()),
    (asked, "batch", 8, dict(held_out=2), dict()),
    (asked, "json", True, dict(output="a"), dict()),
    (asked, "stream", True, dict(json=True), dict()),
    (asked, "output", "a", dict(held_out=2), dict()),
    (asked, "overwrite", True, dict(), dict(output="a")),
    (PredictOptions, "overwrite", True, dict(), dict(output="a")),
    (GenerateOptions, "prompt", ("a",), dict(held_out=2), dict()),
    (GenerateOptions, "prompt_file", "a", dict(held_out=2), dict()),
    (asked, "scores", True, dict(), dict(json=True)),
    (ImportOptions, "sentinels", 9, dict(), dict(vocabulary="a")),
    *[
        (config.Lora, name, value, dict(rank=0), dict(rank=2))
        for name, value in {
            "alpha": 8.0,
            "dropout": 0.1,
            "targets": ("out",),
            "dora": True,
            "train": ("norm",),
        }.items()
    ],
    (ExportOptions, "shard_gigabytes", 1.0, dict(adapter=True), dict(adapter=False)),
    *[
        (lambda **f: VocabularyOptions(output="o", **f), name, value, dict(kind="byte_bpe"), active)
        for name, value, active in (("coverage", 0.99, {}), ("lowercase", True, dict(kind="wordpiece")))
    ],
]
"""Every conditional field of the config and of commands' options."""
CLASSES = {*presets._classes(config.Config), *(command.options for command in COMMANDS.values()), Sampling}


@pytest.mark.parametrize(
    ("kind", "name", "value", "idle", "active"), TABLE, ids=[f"{number}-{row[1]}" for number, row in enumerate(TABLE)]
)
def test_a_field_is_refused_without_its_effect_and_taken_with_it(kind, name, value, idle, active):
    said = sentence(kind, **{name: value}, **idle)
    assert f"{name} {value} has no effect " in said or f"{name}={value!r} has no effect " in said
    assert ", only " in said or re.search(r"no effect with(out)? (--|data\.|train\.|model\.)", said)
    default = next(f.default for f in dataclasses.fields(kind(**active, **{name: value})) if f.name == name)
    assert f"{name} {default}." in said[-90:] or f"{name}={default!r}." in said
    assert getattr(kind(**active, **{name: value}), name) == value


def test_the_table_holds_every_conditional_field():
    there = {(type(kind(**active, **{name: value})).__name__, name) for kind, name, value, _, active in TABLE}
    assert there == {(kind.__name__, name) for kind in CLASSES for name in conditions(kind)}


def test_an_idle_decay_of_a_group_is_refused():
    groups = config.Groups(embedding=config.Group(decay=False))
    assert config.Optimizer(groups=groups, weight_decay=0.1).groups == groups
    assert sentence(config.Optimizer, groups=groups) == (
        "optimizer.groups.embedding.decay=False has no effect without optimizer.weight_decay: leave it at its default, "
        "optimizer.groups.embedding.decay=True."
    )


def test_another_optimizer_of_a_preset_says_which_of_its_settings_to_put_back():
    muon = valid(optimizer=config.Optimizer(name="muon", momentum=0.9))
    flags = ["--optimizer.name", "adafactor"]
    said = sentence(override, muon, NoOptions, flags, "t5like train x")
    assert said == (
        "optimizer.momentum=0.9 has no effect with optimizer.name='adafactor', only with 'muon': leave it at its "
        "default, optimizer.momentum=0.95."
    )
    back, _ = override(muon, NoOptions, [*flags, "--optimizer.momentum", "0.95"], "t5like train x")
    assert back.optimizer == config.Optimizer()


def test_the_help_says_with_what_a_field_has_an_effect(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        override(valid(), PlanOptions, ["--help"], "t5like plan x")
    text = " ".join(line.strip("│ ") for line in shown.getvalue().splitlines())
    assert "(for schedule inverse_sqrt; default: 10000)" in text
    assert "(for name muon; default: 0.95)" in text
    assert "(without explain; default: None)" in text
    assert "(for several sources without rates; default: 1.0)" in text


def test_a_stored_config_is_read_without_what_has_no_effect(tmp_path):
    """Fields that make others idle go with them: without rotary positions there is nothing to scale."""
    presets.write(valid(), tmp_path)
    tree = json.loads((tmp_path / presets.FILE).read_text())
    tree["model"] |= dict(rotary_base=5.0, rotary_scaling="llama3", rotary_factor=8.0, pooling="mean")
    tree["optimizer"] |= dict(momentum=0.9, final=0.1)
    tree["optimizer"]["groups"]["embedding"]["decay"] = False
    tree["data"] |= dict(pack=False)
    tree["data"]["sources"][1] |= dict(document="line", split="test")
    del tree["optimizer"]["schedule_steps"]  # a field that older runs lack
    (tmp_path / presets.FILE).write_text(json.dumps(tree))
    assert presets.read(tmp_path) == valid()


NUMBERS = [
    (kind, name)
    for kind in sorted(CLASSES, key=lambda kind: kind.__name__)
    for name, field in kind.__dataclass_fields__.items()
    if isinstance(field.default, float) or (field.default is None and "float" in str(field.type))
]


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e39], ids=str)
def test_numbers_that_are_not_finite_are_refused(kind, name, value):
    if kind is config.Group:
        assert sentence(config.Groups, mlp=config.Group(rate=value)).startswith(f"optimizer.groups.mlp.rate={value!r} ")
        return
    others = {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    required = dict(
        Data=dict(store="s"),
        Train=dict(directory="r", steps=1, batch=1),
        Model=vars(model()),
        GenerateOptions=dict(prompt=("a",)),
        VocabularyOptions=dict(output="o"),
        Overlap=dict(sources=SOURCES),
    )
    said = sentence(kind, **{**others, **required.get(kind.__name__, {}), name: value})
    assert f"{name}={value!r} must be a finite number" in said or f"--{name} {value} must be a finite number" in said


def test_a_flag_that_is_not_finite_is_refused():
    flags = ["--optimizer.learning_rate", "inf"]
    assert sentence(override, valid(), NoOptions, flags, "x").startswith("optimizer.learning_rate=inf must be")
    assert sentence(change, "train.z_loss", float("nan")).startswith("train.z_loss=nan must be a finite number")


def test_conditions_name_fields_that_exist():
    for kind in CLASSES:
        for condition in conditions(kind).values():
            assert isinstance(condition, AppliesTo)
            assert hasattr(kind, condition.field) or "." in condition.field
