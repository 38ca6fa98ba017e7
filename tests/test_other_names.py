"""Names that people bring from other projects lead to the flag here, before any similarity does."""

import json

import pytest
from settings import sentence, valid

from t5like.cli import COMMANDS
from t5like.commands import NoOptions
from t5like.commands.generate import GenerateOptions
from t5like.commands.vocabulary import VocabularyOptions
from t5like.config import presets
from t5like.config.flags import FLAG, option_flags, override, parse, suggestion
from t5like.config.other_names import OTHER_NAMES, OTHER_OPTIONS, PUBLISHED
from t5like.model.architectures import ARCHITECTURES

FIELDS = {f"--{name}" for name in presets.leaves(valid())}
OPTIONS = {f"--{name}" for command in COMMANDS.values() for name in option_flags(command.options)}
RUN_T5_MLM_FLAX = {
    "model_name_or_path": "--train.init_from",
    "model_type": "--architecture",
    "config_name": "--architecture",
    "tokenizer_name": "--data.vocabulary.path",
    "cache_dir": "--data.store",
    "use_fast_tokenizer": "each tokenizer has one reader",
    "dtype": "--model.dtype",
    "dataset_name": "--data.sources.0.dataset",
    "dataset_config_name": "--data.sources.0.dataset",
    "train_file": "--data.sources.0.path",
    "validation_file": "--data.sources.0.validation",
    "train_ref_file": "--data.objective.whole_words",
    "validation_ref_file": "--data.objective.whole_words",
    "overwrite_cache": "a store is never overwritten",
    "validation_split_percentage": "--data.held_out",
    "max_seq_length": "--data.length",
    "preprocessing_num_workers": "--processes",
    "mlm_probability": "--data.objective.density",
    "mean_noise_span_length": "--data.objective.mean_span",
    "output_dir": "--train.directory",
    "overwrite_output_dir": "a run directory is never overwritten",
    "do_train": "`t5like train` trains",
    "do_eval": "`t5like train` trains",
    "per_device_train_batch_size": "--train.batch",
    "per_device_eval_batch_size": "--eval.batch",
    "learning_rate": "'--optimizer.learning_rate'",
    "weight_decay": "'--optimizer.weight_decay'",
    "adam_beta1": "--optimizer.beta1",
    "adam_beta2": "--optimizer.beta2",
    "adam_epsilon": "epsilon is 1e-8",
    "adafactor": "--optimizer.name adafactor",
    "num_train_epochs": "--train.epochs",
    "label_smoothing_factor": "--train.label_smoothing",
    "early_stopping_patience": "--train.patience",
    "warmup_steps": "--optimizer.warmup",
    "logging_steps": "--train.log_every",
    "save_steps": "--train.save_every",
    "eval_steps": "--eval.every",
    "seed": "--train.seed",
    "push_to_hub": "nothing is uploaded",
    "hub_model_id": "nothing is uploaded",
    "hub_token": "nothing is uploaded",
}
"""The flags of Hugging Face's run_t5_mlm_flax.py, and what the answer to each begins with."""


@pytest.mark.parametrize(("name", "expected"), RUN_T5_MLM_FLAX.items())
def test_a_flag_of_hugging_face_s_script_is_answered(name, expected):
    said = suggestion(f"--{name}", FIELDS)
    begin = "; did you mean " if expected[0] == "'" else "; here it is " if expected[:2] == "--" else "; "
    assert said.startswith(begin + expected), said


def test_every_flag_that_an_answer_names_exists():
    known = FIELDS | OPTIONS | {"--architecture", "--rules"}
    for name, answer in {**OTHER_NAMES, **OTHER_OPTIONS, "": "--at"}.items():
        assert [flag for flag in FLAG.findall(answer) if flag not in known] == [], name
        assert not answer.endswith(".")
    assert set(PUBLISHED.values()) <= ARCHITECTURES.keys()
    assert PUBLISHED.keys().isdisjoint(ARCHITECTURES)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--model.d_model", "512"], "x has no flag --model.d_model; here it is --model.embed."),
        (["--optimizer.lr=1"], "x has no flag --optimizer.lr; here it is --optimizer.learning_rate."),
        (["--gin.TRAIN_STEPS=3"], "x has no flag --gin.TRAIN_STEPS; here it is --train.steps."),
        (
            ["--gin.EVAL_STEPS=3"],
            "x has no flag --gin.EVAL_STEPS; here it is --eval.rows, rows of an evaluation and not",
        ),
        (["--gin.train.total_steps=3"], "x has no flag --gin.train.total_steps; here it is --train.steps."),
        (["--logging.every-steps", "3"], "x has no flag --logging.every_steps; here it is --train.log_every."),
        (
            ["optim.base_lr=3"],
            "x has no use for 'optim.base_lr=3': write overrides as --name value; here it is --optimi",
        ),
        (
            ["per_device_batch_size=3"],
            "x has no use for 'per_device_batch_size=3': write overrides as --name value; he",
        ),
        (["nonsense=3"], "x has no use for 'nonsense=3': write overrides as --name value; --help lists them."),
        (["--batch", "3"], "x has no flag --batch; did you mean '--eval.batch' or '--train.batch'?"),
        (["--trian.batch", "3"], "x has no flag --trian.batch; did you mean '--eval.batch' or '--train.batch'?"),
    ],
)
def test_a_name_of_another_project_is_answered_in_any_form(flags, expected):
    assert sentence(override, valid(), NoOptions, flags, "x").startswith(expected)


def test_options_of_a_command_come_before_fields():
    said = sentence(override, valid(), GenerateOptions, ["--max_new_tokens", "3"], "x")
    assert said == "x has no flag --max_new_tokens; here it is --tokens."
    said = sentence(parse, VocabularyOptions, ["--output", "a", "--vocab_size", "3"], "x")
    assert said == "x has no flag --vocab_size; here it is --size."
    assert sentence(parse, VocabularyOptions, ["--learning_rate", "3"], "x").endswith("; --help lists them.")


def test_a_field_of_a_stored_config_is_answered_too(tmp_path):
    presets.write(valid(), tmp_path)
    tree = json.loads((tmp_path / presets.FILE).read_text())
    tree["optimizer"]["lr"] = 3
    (tmp_path / presets.FILE).write_text(json.dumps(tree))
    assert sentence(presets.read, tmp_path).endswith("has no field 'lr'; here it is optimizer.learning_rate.")
