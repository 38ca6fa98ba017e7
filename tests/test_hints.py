"""What commands suggest and remark, on text like the run's own."""

import pathlib
import types
from typing import Any

import pytest
from golden_runs import GOLDEN
from starts import LEARNED, run_config

from t5like import config
from t5like.commands import generate, hints
from t5like.config.beams import BeamSearch
from t5like.data.vocabulary import Bytes, Vocabulary, load_pieces
from t5like.infer.passages import Passage
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored, note_on_text


def run_of(family: str, folder: pathlib.Path, **changes: Any) -> Restored:
    """As much of an opened run as remarks look at."""
    settings = run_config(folder / "text", folder, family, data__vocabulary=LEARNED, **changes)
    run = object.__new__(Restored)
    network, vocabulary = types.SimpleNamespace(config=settings), Vocabulary(Bytes(), [config.MASK], 11)
    vars(run).update(network=network, run=RunDirectory(folder), vocabulary=vocabulary)
    return run


class Chinese(Vocabulary):
    """A vocabulary of six Chinese pieces and a mask."""

    def __init__(self):
        super().__init__(Bytes(), [config.MASK])
        self.size = 7

    def name(self, number: int) -> str:
        return "床前明月光霜a"[number]


@pytest.mark.parametrize(
    ("family", "shown", "expected"),
    [
        (
            "t5",
            "It was the best of times, it was the worst of <extra_id_0>, it was the age of <extra_id_1> wisdom",
            "generate {run} --prompt 'of times, it was the worst of <extra_id_0>, it was the age of'",
        ),
        (
            "t5",
            "床前明月光，<extra_id_0>地上霜。\n举头<extra_id_1>",
            "generate {run} --prompt '床前明月光，<extra_id_0>地上霜。 举头'",
        ),
        (
            "gpt",
            "  It's\nthe best of times, it was the worst of times, it was the age of wisdom",
            "generate {run} --prompt 'It'\"'\"'s the best of times, it was the worst of times, it was the' "
            "--temperature 0.8 --top_p 0.9",
        ),
        ("bert", "--- a [MASK] of [MASK] times", "fill {run} --text 'a [MASK] of'"),
    ],
)
def test_the_hint_after_passages_is_a_piece_of_the_run_s_own_text(family, shown, expected, tmp_path):
    passages = [Passage(shown, [], "")]
    assert hints.trained(run_of(family, tmp_path), passages) == expected
    on_code = run_of(family, tmp_path, data__sources=(config.Source(),))
    assert hints.trained(on_code, passages) == hints.CODE[on_code.config.model.family].format(
        run="{run}", mask="[MASK]"
    )


def test_the_hint_after_an_import_is_in_the_language_of_the_vocabulary():
    chinese = types.SimpleNamespace(
        name="床前明月光"[:5].__getitem__, size=5, sentinels=[], written=lambda role: "[MASK]"
    )
    assert hints.imported("encoder", chinese) == "fill {run} --text '今天天气[MASK]好。'"
    english = Vocabulary(load_pieces(GOLDEN / "bert_masked"))
    assert hints.imported("encoder", english) == "fill {run} --text 'The [MASK] sat on the mat.'"
    assert hints.imported("encoder-decoder", Vocabulary(Bytes(), (), 3)).startswith(
        "generate {run} --prompt 'The <extra_"
    )


def test_a_plain_prompt_to_a_run_that_fills_gaps_is_remarked_on_once(tmp_path, capsys):
    t5 = run_of("t5", tmp_path)
    for prompts, run in ((["a <extra_id_0>", ""], t5), (["a"], run_of("gpt", tmp_path))):
        generate._note_plain_prompts(run, generate._survey(iter(prompts)).plain)
    assert capsys.readouterr() == ("", "")
    generate._note_plain_prompts(t5, generate._survey(iter(["a", "b"])).plain)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(
        f"t5like: {tmp_path} has learned to fill gaps and not to go on from a prompt: write <extra_id_"
    )
    (tmp_path / "import.json").touch()  # nobody knows what that one has learned
    generate._note_plain_prompts(t5, True)
    assert capsys.readouterr() == ("", "")


def test_an_imported_run_without_text_names_the_one_that_it_is_evaluated_on(tmp_path):
    run, own = RunDirectory(tmp_path), config.Data(store="store")
    other = config.Data(store="store", sources=(config.Source(kind="text", path="a.txt"),))
    assert (note_on_text(run, own), note_on_text(run, other)) == ("", "")
    run.import_record.touch()
    assert note_on_text(run, own).startswith(
        f"{tmp_path} was imported without text, so Python's own library is its held"
    )
    assert note_on_text(run, other) == ""


def test_options_that_a_folder_states_for_answers_are_named_where_none_are_given(tmp_path, capsys):
    run = run_of("gpt", tmp_path)
    kept = run.run.hugging_face / "generation_config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"num_beams": 4, "early_stopping": true, "length_penalty": 2.0, "top_p": 0.9}')
    generate._note_defaults(run, generate.GenerateOptions(prompt=("a",), beams=BeamSearch(num_beams=2)))
    assert capsys.readouterr() == ("", "")
    generate._note_defaults(run, generate.GenerateOptions(prompt=("a",)))
    said = capsys.readouterr().err
    assert said.endswith("to answer with them, add --num_beams 4 --length_penalty 2.0 --early_stopping true\n")
