"""The vocabulary of a run that starts from another's parameters: its numbers must mean the same pieces."""

import pathlib
import re
from typing import Any

import pytest
from settings import sentence
from small import replace
from starts import BYTES, LEARNED, import_run, quietly, run_config, write_texts

from t5like import config
from t5like.commands import NoOptions
from t5like.config.flags import override
from t5like.data.prepare import prepare
from t5like.data.vocabulary import open_vocabulary
from t5like.runs.directory import RunDirectory
from t5like.train.loop import check_start, train


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, pathlib.Path]:
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "byte_bpe", "bytes"])
def test_another_vocabulary_is_refused_with_the_settings_that_mend_it(kind, texts, tmp_path):
    """The settings, read off the sentence and given as flags, lead to the same pieces under the same numbers."""
    sizes = {"unigram": 290, "wordpiece": 190, "byte_bpe": 270, "bytes": 259}
    covering = {"coverage": 1.0} if kind in ("unigram", "wordpiece") else {}
    learned = config.Vocabulary(kind=kind, size=sizes[kind], sentinels=7, extra=("<a>", "<b>"), **covering)
    import_run(run_config(texts["first"], tmp_path / "source", data__vocabulary=learned))
    other = {
        "byte_bpe": BYTES,
        "wordpiece": config.Vocabulary(kind="bpe", size=280, coverage=0.99),  # a file has none
    }.get(kind, config.Vocabulary(kind="byte_bpe", size=280))
    settings = run_config(
        texts["second"], tmp_path / "run", data__vocabulary=other, train__init_from=str(tmp_path / "source")
    )
    said = sentence(train, settings)
    whose = "this run's" if other is BYTES else "would be learned here"
    path = "" if kind == "bytes" else f"data.vocabulary.path={tmp_path}/source/vocabulary, "
    assert said == (
        f"{tmp_path}/source has another vocabulary than {whose}: set data.vocabulary.kind="
        f"{'bytes' if kind == 'bytes' else 'file'}, {path}data.vocabulary.size={sizes[kind]}, "
        "data.vocabulary.sentinels=7, data.vocabulary.extra=<a> <b>"
        f"{', data.vocabulary.coverage=0.9995' if kind == 'wordpiece' else ''}."
    )
    assert not (tmp_path / "run").exists() and not (tmp_path / "store_second").exists()
    given = [word for part in re.findall(r"(data\.vocabulary\.[^,]*)[,.]", said) for word in f"--{part}".split()]
    given = [word for pair in given for word in (pair.split("=", 1) if pair.startswith("--") else [pair])]
    mended, _ = override(settings, NoOptions, given, "t5like train")
    assert check_start(RunDirectory(tmp_path / "run"), mended) is not None
    there, here = open_vocabulary(tmp_path / "source" / "vocabulary"), prepare(mended.data, quietly)
    assert (here.hash, here.special, here.size) == (there.hash, there.special, there.size)


def test_special_pieces_under_other_numbers_are_another_vocabulary(texts, tmp_path):
    import_run(run_config(texts["first"], tmp_path / "source", data__vocabulary=LEARNED))
    own = replace(LEARNED, kind="file", path=str(tmp_path / "source" / "vocabulary"))
    run = RunDirectory(tmp_path / "run")

    def check(**changes: Any) -> Any:
        wanted = replace(own, **changes)
        return check_start(
            run,
            run_config(texts["second"], run.path, data__vocabulary=wanted, train__init_from=str(tmp_path / "source")),
        )

    assert check() and check(extra=(config.MASK, config.CLS, config.SEP), sentinels=6)
    for changes in ({"sentinels": 8}, {"extra": (config.CLS, config.MASK)}, {"extra": (config.MASK,)}):
        assert sentence(lambda changes=changes: check(**changes)).endswith(
            "data.vocabulary.size=270, data.vocabulary.sentinels=7, data.vocabulary.extra=[MASK] [CLS]."
        )


def test_a_store_of_another_vocabulary_is_refused_once_it_is_open(texts, tmp_path):
    import_run(run_config(texts["first"], tmp_path / "source", data__vocabulary=LEARNED))
    settings = run_config(
        texts["second"], tmp_path / "run", data__vocabulary=LEARNED, train__init_from=str(tmp_path / "source")
    )
    prepare(settings.data, quietly)
    assert sentence(train, settings).startswith(
        f"{tmp_path}/source has another vocabulary than this run's: set data.vo"
    )
