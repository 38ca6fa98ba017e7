"""The inputs of the originals and what the originals make of them.

Each batch has three rows of which the second is padded at its right end. Names are those of transformers, ids are
int32 and outputs float32. A greedy continuation starts from one row's real tokens alone, so that no padding is in it.
"""

from typing import Any

import numpy as np

LENGTH, REAL = 20, (20, 15, 20)
DECODER_LENGTH, DECODER_REAL = 11, (11, 8, 11)
LONG, DECODER_LONG = 200, 140  # both beyond 128, where T5's last bucket begins
LONG_KEPT = 12  # of the long decoder's logits only the last are kept: they see every distance
NEW_TOKENS = 12
MARGIN = 1e-3  # between the best and the second logit of each greedy step: what rounding must not turn around

Arrays = dict[str, np.ndarray]


def inputs(original: Any, config: Any, generator: np.random.Generator) -> Arrays:
    """The batch that the original is called with, labels included where it has a loss."""
    if original.model.startswith("Bert"):
        return bert_inputs(original, generator)
    pad = config.pad_token_id or 0
    tokens = rows(original.ids, LENGTH, REAL, pad, generator)
    mask = real(LENGTH, REAL)
    if config.model_type == "llama":
        tokens[:, 0] = config.bos_token_id
    batch = dict(input_ids=tokens, attention_mask=mask)
    if not config.is_encoder_decoder:
        return batch | dict(labels=np.where(mask, tokens, -100))
    end(tokens, REAL, config.eos_token_id)
    if original.model.endswith("EncoderModel"):
        return batch
    return batch | decoder_inputs(original.ids, config, DECODER_LENGTH, DECODER_REAL, generator)


def long_inputs(original: Any, config: Any, generator: np.random.Generator) -> Arrays:
    """One row beyond the distance at which relative positions stop being told apart, without labels."""
    tokens = rows(original.ids, LONG, (LONG,), config.pad_token_id, generator)
    batch = decoder_inputs(original.ids, config, DECODER_LONG, (DECODER_LONG,), generator)
    del batch["labels"]
    return dict(input_ids=tokens, attention_mask=real(LONG, (LONG,))) | batch


def long_outputs(model: Any, batch: Arrays) -> Arrays:
    return dict(logits=outputs(model, batch, gradients=False)["logits"][:, -LONG_KEPT:])


def rows(
    ids: tuple[int, int], length: int, lengths: tuple[int, ...], pad: int, draw: np.random.Generator
) -> np.ndarray:
    return np.where(real(length, lengths), draw.integers(*ids, (len(lengths), length)), pad)


def real(length: int, lengths: tuple[int, ...]) -> np.ndarray:
    return (np.arange(length) < np.array(lengths)[:, None]).astype(int)


def end(tokens: np.ndarray, lengths: tuple[int, ...], eos: int) -> None:
    tokens[np.arange(len(lengths)), np.array(lengths) - 1] = eos


def decoder_inputs(
    ids: tuple[int, int], config: Any, length: int, lengths: tuple[int, ...], draw: np.random.Generator
) -> Arrays:
    mask = real(length, lengths)
    targets = rows(ids, length, lengths, config.pad_token_id, draw)
    end(targets, lengths, config.eos_token_id)
    start = np.full((len(lengths), 1), config.decoder_start_token_id)
    shifted = np.where(mask, np.concatenate([start, targets[:, :-1]], 1), config.pad_token_id)
    return dict(decoder_input_ids=shifted, decoder_attention_mask=mask, labels=np.where(mask, targets, -100))


def bert_inputs(original: Any, draw: np.random.Generator) -> Arrays:
    """[CLS] a [SEP] b [SEP], with the labels of each head."""
    cls, sep, mask_id = 2, 3, 4
    mask = real(LENGTH, REAL)
    tokens = rows(original.ids, LENGTH, REAL, 0, draw)
    tokens[:, 0], tokens[:, 8] = cls, sep
    end(tokens, REAL, sep)
    batch = dict(input_ids=tokens, attention_mask=mask, token_type_ids=np.where(np.arange(LENGTH) > 8, mask, 0))
    ordinary = (tokens >= original.ids[0]) & (mask == 1)
    chosen = ordinary & (draw.random(tokens.shape) < 0.3)
    classes = original.heads.get("num_labels")
    match original.model:
        case "BertForPreTraining" | "BertForMaskedLM":
            batch["labels"] = np.where(chosen, tokens, -100)
            batch["input_ids"] = np.where(chosen & (draw.random(tokens.shape) < 0.8), mask_id, tokens)
            if original.model == "BertForPreTraining":
                batch["next_sentence_label"] = np.array([0, 1, 1])
        case "BertForTokenClassification":
            batch["labels"] = np.where(ordinary, draw.integers(0, classes, tokens.shape), -100)
        case "BertForQuestionAnswering":
            batch |= dict(start_positions=np.array([9, 11, 14]), end_positions=np.array([12, 11, 18]))
        case "BertForSequenceClassification":
            batch["labels"] = np.array([2, 0, 1]) if classes > 1 else np.array([0.4, -1.3, 2.2], np.float32)
    return batch


def call(model: Any, batch: Arrays) -> Any:
    """The model's outputs for a batch of numpy arrays."""
    import torch

    return model(**{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()})


NAMES = dict(
    loss="loss",
    logits="logits",
    prediction_logits="prediction_logits",
    seq_relationship_logits="seq_relationship_logits",
    start_logits="start_logits",
    end_logits="end_logits",
    last_hidden_state="hidden",
    pooler_output="pooled",
)


def outputs(model: Any, batch: Arrays, gradients: bool) -> Arrays:
    """The outputs of the model that the golden file keeps, and the gradient of the loss by each parameter."""
    model.zero_grad()
    said = call(model, batch)
    kept = {ours: said[name].detach().numpy() for name, ours in NAMES.items() if said.get(name) is not None}
    if gradients:
        said["loss"].backward()
        kept |= {f"grad.{name}": weight.grad.numpy() for name, weight in model.named_parameters()}
    return kept


def greedy(model: Any, batch: Arrays) -> Arrays:
    """The greedy continuation of each row's real tokens alone, the end token included, padded with zeros.

    Raises:
      ValueError: the best two tokens of some step are so close that rounding could swap them; change the seed.
    """
    continued, lengths = np.zeros((len(REAL), NEW_TOKENS), int), []
    for row, length in enumerate(REAL):
        tokens, margin = continuation(model, batch["input_ids"][row : row + 1, :length])
        if margin < MARGIN:
            raise ValueError(f"row {row} of a greedy continuation has a margin of {margin:.1e}")
        continued[row, : len(tokens)] = tokens
        lengths.append(len(tokens))
    return dict(greedy=continued, greedy_lengths=np.array(lengths))


def continuation(model: Any, prompt: np.ndarray) -> tuple[np.ndarray, float]:
    """The new tokens, and the smallest difference between the best and the second logit."""
    import torch

    tokens = torch.from_numpy(prompt)
    made = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        num_beams=1,
        max_new_tokens=NEW_TOKENS,
        use_cache=False,  # transformers 5.24 gives a T5 as many caches as it has encoder layers, and fails with more
        pad_token_id=model.config.pad_token_id or 0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.cat(made.logits).topk(2).values
    return made.sequences[0, -len(made.logits) :].numpy(), float((best[:, 0] - best[:, 1]).min())
