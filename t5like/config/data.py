"""From text to rows: sources, filters, vocabulary, objective, and the lengths that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive, require_seed
from t5like.config.filters import Filter
from t5like.config.marks import applies_to
from t5like.config.objective import LABELLED, WITH_LABELS, Lengths, Objective
from t5like.config.sources import Source
from t5like.config.tasks import OBJECTIVES
from t5like.config.vocabulary import ROLES, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Data:
    """From text to rows."""

    sources: tuple[Source, ...] = (Source(),)
    """Sources of documents; training mixes them."""
    filters: tuple[Filter, ...] = ()
    """Filters that each document passes before it is tokenised, in this order."""
    store: str
    """Folder of the vocabulary and the tokenised documents; prepared when it is missing."""
    vocabulary: Vocabulary = Vocabulary()
    """Tokenizer and special tokens."""
    objective: Objective = Objective()
    """Training objective."""
    length: int = 512
    """Tokens of a row: of the encoder's input where there is an encoder, of the text otherwise."""
    target_length: Annotated[int | None, applies_to("objective.kind", "sequence_to_sequence")] = None
    """Tokens of the decoder's row; other objectives' targets have the length that follows."""
    documents: bool = False
    """An example is one document (a file or a line, `data.sources.N.document`), cut where it is too long; without, a
    window of running text that may hold several. Pairs, labelled examples, next-sentence prediction and fill in the
    middle always take documents."""
    pack: Annotated[bool, applies_to("packs", words="rows that are made of documents or pairs")] = True
    """Pack several documents into a row where they fit, as segments that do not attend to each other; without, a row
    has one. Next-sentence prediction never packs, nor do labels but those of tokens."""
    temperature: Annotated[float, applies_to("mixes_by_size", words="several sources without rates")] = 1.0
    """Rates of the sources are their sizes to the power of 1/temperature, as in mT5 and T5."""
    size_cap: Annotated[int | None, applies_to("mixes_by_size", words="several sources without rates")] = None
    """Rows that a source counts for at most, T5's K."""
    held_out: float = 0.01
    """Validation fraction: share of the documents that is held out as the validation split, chosen by a hash."""
    held_out_test: Annotated[float, applies_to("has_tasks", words="sources with tasks")] = 0.0
    """Test fraction: share of the examples that is held out as the test split of tasks without files for it."""
    seed: int = 0
    """Seed of the order of rows and of their noise."""

    def __post_init__(self) -> None:
        require_fields("data", self)
        require_seed("data", self)
        require(len(self.sources) > 0, "data.sources is empty: name at least one source.")
        require(bool(self.store), "data.store is empty: name the folder for the tokenised documents.")
        require(self.length >= 8, f"data.length={self.length} must be at least 8.")
        require(0 < self.held_out < 1, f"data.held_out={self.held_out} must lie between 0 and 1.")
        require(
            0 <= self.held_out_test < 1 - self.held_out,
            f"data.held_out_test={self.held_out_test} must be at least 0 and leave something to train on beside "
            f"data.held_out={self.held_out}.",
        )
        self._check_mixture()
        self._check_tasks()
        self._check_parts()
        self.objective.spec.check(self.objective, self._row_lengths)
        self._check_vocabulary()

    def _check_mixture(self) -> None:
        rates = [source.rate is not None for source in self.sources]
        require(
            all(rates) or not any(rates),
            f"data.sources.{rates.index(False) if False in rates else 0} has no rate, but others have: "
            "give every source one, or none.",
        )
        require_positive("data", self, "temperature")
        if self.size_cap is not None:
            require_positive("data", self, "size_cap")
        names = self.source_names
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"Two of data.sources are called {', '.join(map(repr, twice))}: set data.sources.N.name.")

    def _check_tasks(self) -> None:
        kind = self.objective.kind
        for name, source in zip(self.source_names, self.sources, strict=True):
            if (task := source.task) is None:
                require(
                    kind not in LABELLED,
                    f"data.objective.kind={kind!r} learns the examples of tasks, and the source {name!r} is "
                    "text: give it data.sources.N.task.",
                )
                continue
            fitting = OBJECTIVES[task.kind]
            require(
                kind in fitting,
                f"data.objective.kind={kind!r} does not learn the task {task.kind!r} of the source {name!r}: "
                f"take one of {', '.join(map(repr, fitting))}.",
            )

            require(
                kind not in WITH_LABELS or not task.labels or self.objective.labels in (0, 1, len(task.labels)),
                f"data.objective.labels={self.objective.labels} does not fit the task of the source {name!r}: set that "
                f"and model.labels to the number of its labels, {len(task.labels)}.",
            )

    def _check_parts(self) -> None:
        kind, needed = self.objective.kind, self.objective.spec.parts
        for name, source in zip(self.source_names, self.sources, strict=True):
            require(
                source.task is not None or source.parts == needed,
                f"data.objective.kind={kind!r} learns from documents of {needed} part{'s' if needed > 1 else ''}, but "
                f"the source {name!r} has {source.parts}: change data.sources.N.fields or data.sources.N.template.",
            )
        require(
            self.target_length is None or self.target_length >= 2,
            f"data.target_length={self.target_length} must be at least 2.",
        )
        require(
            needed == 1 or not any(f.kind in ("c4", "repeated_lines") for f in self.filters),
            "data.filters: C4's rules and repeated lines edit lines of running text, which the parts of pairs are not; "
            "leave them out.",
        )
        require(
            sum(f.kind == "repeated_lines" for f in self.filters) < 2,
            "data.filters: repeated lines go once; leave one of the two filters out.",
        )

    def _check_vocabulary(self) -> None:
        spec, vocabulary = self.objective.spec, self.vocabulary
        require(
            (spans := spec.sentinels(self.objective, self._row_lengths)) <= vocabulary.sentinels,
            f"data.length={self.length} has {spans} spans but data.vocabulary.sentinels={vocabulary.sentinels}: raise "
            "data.vocabulary.sentinels or data.objective.mean_span.",
        )
        missing = [ROLES[role][0] for role in spec.roles if not vocabulary.has_role(role)]
        missing += [name for name in spec.special_tokens(self.objective) if not vocabulary.has(name)]
        require(
            not missing,
            f"data.objective.kind={self.objective.kind!r} needs special tokens: add {' '.join(missing)} to "
            "data.vocabulary.extra.",
        )

    @property
    def _row_lengths(self) -> Lengths:
        return Lengths(self.length, self.target_length, self.draws_lengths)

    @property
    def source_names(self) -> tuple[str, ...]:
        """The name of each source in reports."""
        return tuple(
            source.name or (source.kind if len(self.sources) == 1 else f"{source.kind}_{number}")
            for number, source in enumerate(self.sources)
        )

    @property
    def by_document(self) -> bool:
        """True if an example is a document, or a cut of one, and not a window of running text."""
        return self.documents or self.objective.spec.by_document

    @property
    def packs(self) -> bool:
        """True if a row may hold several examples."""
        return self.by_document and self.objective.spec.packs

    @property
    def has_tasks(self) -> bool:
        """True if a source has a task."""
        return any(source.task is not None for source in self.sources)

    @property
    def mixes_by_size(self) -> bool:
        """True if the sizes of several sources decide on their shares of the rows."""
        return len(self.sources) > 1 and all(source.rate is None for source in self.sources)

    @property
    def draws_lengths(self) -> bool:
        """True if the pack table has lengths that were drawn at random, several times for a small source."""
        return self.by_document and self.pack and self.objective.draws_lengths

    @property
    def parts(self) -> int:
        """Parts of an example: those of its document, or the two into which the pack table cuts it."""
        return 2 if self.objective.spec.cut_in_two and self.draws_lengths else self.objective.spec.parts

    @property
    def window(self) -> int:
        """Raw tokens of a window of running text, and the most of a document."""
        return self.objective.spec.window(self.objective, self._row_lengths)

    @property
    def lengths(self) -> dict[Literal["encoder", "decoder"], int]:
        """Tokens of a row in each stack that the objective's family has."""
        spec = self.objective.spec
        if self.objective.family == "encoder-decoder":
            return {"encoder": self.length, "decoder": spec.targets(self.objective, self._row_lengths)}
        return {self.objective.family: self.length}
