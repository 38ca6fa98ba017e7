"""Options of constrained answers that contradict each other, or that mean nothing."""

import pytest
from small_vocabularies import vocabulary_of

from t5like.config.constraints import Constraints
from t5like.errors import UserError
from t5like.infer.constrained import cut, prefix_tokens, written_forms


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(stop=("a", "")), "--stop has an empty string, which every text contains: leave it out."),
        (dict(bad_words=("",)), "--bad_words has an empty string, which every text contains: leave it out."),
        (dict(stop=("\udce4",)), r"--stop '\udce4' is no valid UTF-8."),
        (dict(prefix="\udce4"), r"--prefix '\udce4' is no valid UTF-8."),
        (
            dict(allowed_words=(" a",)),
            "--allowed_words ' a' begins or ends with a space: leave that out, since spaces stand between words "
            "anyway.",
        ),
        (dict(min_new_tokens=-1), "--min_new_tokens -1 must not be negative."),
        (
            dict(bad_words=("x", "a"), allowed_words=("ab", "ca")),
            "--bad_words 'a' is in every one of --allowed_words: leave one of the two out.",
        ),
        (dict(bad_words=("b",), prefix="abc"), "--prefix 'abc' has 'b' of --bad_words in it."),
        (
            dict(stop=("b",), prefix="abc"),
            "--prefix 'abc' has the stop string 'b' in it, so no answer would go on behind it.",
        ),
        (dict(regex="a", json_schema="any"), "--regex and --json_schema exclude each other: give one."),
        (
            dict(json_schema="any", stop=("a",)),
            "--stop cannot be joined with --json_schema: leave one out, since the grammar alone says how an answer "
            "goes on and ends.",
        ),
        (
            dict(include_stop_str_in_output=True),
            "--include_stop_str_in_output True has no effect without --stop: leave it at its default, "
            "--include_stop_str_in_output False.",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(options, sentence):
    with pytest.raises(UserError) as error:
        Constraints(**options)
    assert str(error.value) == sentence


def test_options_are_possible_with_the_length_and_the_beams():
    Constraints(min_new_tokens=3).require_alone(3, num_beams=4)
    with pytest.raises(UserError, match=r"^--min_new_tokens 4 is more than --tokens 3: lower it or raise --tokens\.$"):
        Constraints(min_new_tokens=4).require_alone(3)
    with pytest.raises(
        UserError, match=r"^--regex cannot be joined with --num_beams 4, since a grammar follows one ans"
    ):
        Constraints(regex="a").require_alone(3, num_beams=4)


def test_a_prefix_that_is_no_prefix_is_refused():
    vocabulary = vocabulary_of("t5")
    assert (
        vocabulary.decode(prefix_tokens(Constraints(prefix="<extra_id_0> river"), vocabulary)) == "<extra_id_0> river"
    )
    with pytest.raises(UserError) as error:
        prefix_tokens(Constraints(prefix="river "), vocabulary)
    assert str(error.value) == (
        "--prefix 'river ' is no text of this vocabulary, in which it becomes 'river': give a prefix that stays as it "
        "is."
    )


def test_a_text_is_cut_before_the_stop_string_that_is_complete_first():
    vocabulary = vocabulary_of("bytes")
    options = Constraints(stop=("cde", "bc", "abc"))
    assert cut("xabcde", options, vocabulary) == "x"
    assert cut("xbcde", options, vocabulary) == "x"
    assert cut("xcdx", options, vocabulary) == "xcdx"
    assert cut("abcabc", Constraints(stop=("bc",), include_stop_str_in_output=True), vocabulary) == "abc"


def test_wordpiece_finds_strings_as_it_writes_them():
    assert written_forms(["月光", "The"], vocabulary_of("wordpiece")) == ["月光", "The", "月 光"]
    assert written_forms(["月光"], vocabulary_of("bytes")) == ["月光"]
