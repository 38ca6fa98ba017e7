"""The config that flags start from: presets of the package, published sizes, and the vocabulary of another run."""

import dataclasses
import pathlib
import runpy
import sys
import types

import pytest
from command_line import CONFIGS, ROOT
from settings import sentence
from small import labelled_config
from starts import BYTES, LEARNED, import_run, run_config, write_texts

from t5like.cli import COMMANDS, run
from t5like.commands import NoOptions
from t5like.commands.source import COMPUTED, based
from t5like.config import presets
from t5like.config.flags import override
from t5like.model.architectures import ARCHITECTURES

PRESETS = [file.stem for file in sorted(CONFIGS.glob("*.py"))]


@pytest.fixture
def configured(monkeypatch):
    """The config that a command line gives its function."""
    given = []
    for name in ("train", "plan", "prepare", "inspect"):
        monkeypatch.setitem(COMMANDS, name, COMMANDS[name]._replace(function=lambda *made: given.append(made[0])))

    def config_of(*words):
        run([*map(str, words)])
        return given.pop()

    return config_of


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_preset_of_the_package_is_found_by_its_name_in_any_folder(configured, elsewhere, say):
    assert configured("train", "tiny_t5", "--train.steps", 7).train.steps == 7
    listed = dict(line.split(maxsplit=1) for line in say("configs").splitlines())
    assert list(listed) == PRESETS
    assert all(len(text) > 30 and text.endswith((".", "words")) for text in listed.values())
    assert say("configs", "tiny_t5", "tiny_gpt") == "".join(
        (CONFIGS / f"tiny_{n}.py").read_text() for n in ("t5", "gpt")
    )
    (elsewhere / "tiny_t5").write_text("")  # what is there comes before the package
    assert sentence(run, ["train", "tiny_t5"]) == (
        "tiny_t5 is no preset: presets are Python files that hold `config = Config(...)`."
    )
    assert sentence(run, ["data", "stats", "tiny_bert"]) == (
        "There is no store in stores/python_library: run `t5like prepare tiny_bert`."
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["train", "tiny_t6"],
            "tiny_t6 is neither a preset nor a run directory; `t5like configs` lists the presets here.",
        ),
        (
            ["train", "configs/tiny_t5.py"],
            "configs/tiny_t5.py is neither a preset nor a run directory; 'tiny_t5' is in ",
        ),
        (["branch"], "t5like branch needs a RUN first: a run directory."),
        (
            ["branch", str(CONFIGS / "tiny_t5.py"), "--train.directory", "none"],
            "runs/tiny_t5 holds no checkpoint to branch from: train there ",
        ),
        (["configs", "tiny_t6"], "There is no preset 'tiny_t6' in the package; did you mean 'tiny_t5'?"),
    ],
)
def test_a_source_that_is_none_is_a_sentence(words, expected, elsewhere):
    assert sentence(run, words).startswith(expected)


def test_an_installation_has_the_presets(monkeypatch, tmp_path):
    said = {}
    fake = types.SimpleNamespace(setup=said.update, find_packages=lambda include: ["t5like"])
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(ROOT / "setup.py"))
    assert said["packages"] == ["t5like", "t5like.configs"]
    assert (ROOT / said["package_dir"]["t5like.configs"]).resolve() == CONFIGS
    installed = tmp_path / "t5like" / "configs"
    installed.mkdir(parents=True)
    (installed / "mine.py").touch()
    monkeypatch.setattr(presets, "__file__", str(tmp_path / "t5like" / "config" / "presets.py"))
    assert presets.packaged.__wrapped__() == {"mine": installed / "mine.py"}


@pytest.mark.parametrize(
    ("command", "flag"),
    [("train", "--architecture"), ("plan", "--model"), ("prepare", "--architecture"), ("inspect", "--model")],
)
def test_a_published_size_takes_the_place_of_the_preset_s_model(command, flag, configured):
    before, after = presets.load("tiny_t5"), configured(command, "tiny_t5", flag, "t5_1_1_large", "--model.dropout=0.1")
    kept = {name: getattr(before.model, name) for name in COMPUTED} | {"dropout": 0.1}
    assert after.model == dataclasses.replace(ARCHITECTURES["t5_1_1_large"], **kept)
    assert dataclasses.replace(after, model=before.model) == before


def test_a_published_size_may_need_other_flags_beside_it(configured):
    words = ("train", "tiny_t5", "--architecture", "gpt2_small")
    assert sentence(run, [*words]).startswith(
        "data.objective.kind='span_corruption' is for the family 'encoder-decoder'"
    )
    usual = ("--data.objective.density", "0.15", "--data.objective.mean_span", "3")
    assert configured(*words, "--data.objective.kind", "causal", *usual).model.vocab == 50_257
    assert configured("train", "tiny_bert", "--architecture", "bert_base").model.head == "vocabulary"
    assert configured("train", "bert_base", "--architecture", "bert_large").model.pooler
    own = based(labelled_config("classification"), ["--architecture", "bert_large"])[0].model
    assert (own.embed, own.head, own.labels, own.output_transform) == (1024, "sequence", 3, False)
    assert sentence(run, ["train", "mt5_base", "--model", "t5_1_1_base"]).startswith(
        "model.vocab=32128 is below the 250"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t5_1_1_larg", "There is no architecture 't5_1_1_larg'; did you mean 't5_1_1_large'?"),
        ("google/t5-v1_1-xl", "There is no architecture 'google/t5-v1_1-xl'; here it is 't5_1_1_xl'."),
        ("gpt2", "There is no architecture 'gpt2'; here it is 'gpt2_small'."),
        ("zzz", "There is no architecture 'zzz'; `t5like architectures` lists them."),
        ("--train.steps", "--architecture needs the name of a published size: `t5like architectures` lists them."),
    ],
)
def test_a_size_that_is_not_published_names_the_nearest(name, expected):
    assert sentence(run, ["plan", "tiny_t5", "--architecture", name]) == expected


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, pathlib.Path]:
    return write_texts(tmp_path_factory.mktemp("texts"))


def with_flags(config, *flags):
    base, rest = based(config, [*map(str, flags)])
    return override(base, NoOptions, rest, "t5like train x")[0]


def test_a_run_that_starts_from_another_takes_its_vocabulary_unless_it_is_given_one(texts, tmp_path):
    import_run(run_config(texts["first"], tmp_path / "source", data__vocabulary=LEARNED))
    source, start = tmp_path / "source", ("--train.init_from", tmp_path / "source")
    there = presets.read(source).data.vocabulary
    preset = presets.load("tiny_gpt")
    # 2,048 pieces do not fit into the 384 rows of the source, which are checked after the vocabulary is known.
    taken = with_flags(preset, *start, "--model.vocab", 384)
    assert taken.data.vocabulary == dataclasses.replace(there, path=f"{source}/vocabulary")
    assert with_flags(preset, f"--train.init-from={source}/checkpoints/0").data.vocabulary == taken.data.vocabulary
    for given in (["--data.vocabulary.size", "900"], ["--data.vocabulary.size=1900"]):
        assert with_flags(preset, *start, *given).data.vocabulary.kind == "unigram"
    own = run_config(texts["second"], tmp_path / "run", data__vocabulary=BYTES)
    assert with_flags(own, *start).data.vocabulary == BYTES
    assert with_flags(preset, "--train.init_from", tmp_path / "none").data == preset.data


def test_a_run_on_the_text_of_its_source_goes_on_with_its_store(texts, tmp_path):
    config = run_config(texts["first"], tmp_path / "source", data__vocabulary=LEARNED)
    presets.write(config, tmp_path)
    same = with_flags(config, "--train.init_from", tmp_path, "--train.directory", tmp_path / "run")
    assert same.data == config.data
    other = with_flags(config, "--train.init_from", tmp_path, "--data.sources.0.path", texts["second"])
    assert (other.data.vocabulary.kind, other.data.vocabulary.path) == ("file", f"{tmp_path}/vocabulary")


def test_a_run_that_has_begun_goes_on_with_its_vocabulary_without_its_source(texts, tmp_path):
    config = run_config(texts["first"], tmp_path / "source", data__vocabulary=LEARNED)
    (tmp_path / "source").mkdir()
    presets.write(config, tmp_path / "source")
    flags = ("--train.init_from", tmp_path / "source", "--train.directory", tmp_path / "run", "--data.held_out", 0.3)
    begun = with_flags(config, *flags)
    (tmp_path / "run" / "checkpoints" / "2" / "state").mkdir(parents=True)
    presets.write(begun, tmp_path / "run")
    (tmp_path / "source" / presets.FILE).unlink()
    assert with_flags(config, *flags) == begun
    presets.write(dataclasses.replace(begun, data=config.data), tmp_path / "run")
    assert with_flags(config, *flags).data.vocabulary == config.data.vocabulary
