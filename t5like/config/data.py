"""From text to rows: sources, filters, vocabulary, objective, and the lengths that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive, require_seed
from t5like.config.marks import applies_to
from t5like.config.objective import Objective
from t5like.config.sources import Filter, Source
from t5like.config.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Data:
    """From text to rows."""

    sources: tuple[Source, ...] = (Source(),)
    """Where the documents come from; training mixes them."""
    filters: tuple[Filter, ...] = ()
    """What each document passes before it is tokenised, in this order."""
    store: str
    """Folder of the vocabulary and the tokenised documents; prepared when it is missing."""
    vocabulary: Vocabulary = Vocabulary()
    """How text becomes numbers."""
    objective: Objective = Objective()
    """What the model learns to predict."""
    length: int = 512
    """Tokens of a row: of the encoder's input where there is an encoder, of the text otherwise."""
    target_length: Annotated[int | None, applies_to("objective.kind", "sequence_to_sequence")] = None
    """Tokens of the decoder's row; other objectives' targets have the length that follows."""
    documents: bool = False
    """Whether rows are made of documents, cut where they are too long, and not of windows of running text. Pairs,
    next-sentence prediction and fill in the middle always are."""
    pack: Annotated[bool, applies_to("packs", words="rows that are made of documents or pairs")] = True
    """Puts several documents into a row where they fit; next-sentence prediction never does."""
    temperature: Annotated[float, applies_to("mixes_by_size", words="several sources without rates")] = 1.0
    """Rates of the sources are their sizes to the power of 1/temperature, as in mT5 and T5."""
    size_cap: Annotated[int | None, applies_to("mixes_by_size", words="several sources without rates")] = None
    """Rows that a source counts for at most, T5's K."""
    held_out: float = 0.01
    """Share of the documents that is kept for evaluation, chosen by a hash."""
    seed: int = 0
    """Seed of the order of rows and of their noise."""

    def __post_init__(self) -> None:
        require_fields("data", self)
        require_seed("data", self)
        require(len(self.sources) > 0, "data.sources is empty: name at least one source.")
        require(bool(self.store), "data.store is empty: name the folder for the tokenised documents.")
        require(self.length >= 8, f"data.length={self.length} must be at least 8.")
        require(0 < self.held_out < 1, f"data.held_out={self.held_out} must lie between 0 and 1.")
        self._check_mixture()
        self._check_parts()
        self._check_pieces()

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

    def _check_parts(self) -> None:
        kind, needed = self.objective.kind, self.objective.parts
        for name, source in zip(self.source_names, self.sources, strict=True):
            require(
                source.parts == needed,
                f"data.objective.kind={kind!r} learns from documents of {needed} part{'s' if needed > 1 else ''}, but "
                f"the source {name!r} has {source.parts}: change data.sources.N.fields or data.sources.N.template.",
            )
        require(
            self.target_length is not None or kind != "sequence_to_sequence",
            "data.objective.kind='sequence_to_sequence' needs data.target_length, the tokens of the decoder's row.",
        )
        require(
            self.target_length is None or self.target_length >= 2,
            f"data.target_length={self.target_length} must be at least 2.",
        )
        require(
            needed == 1 or not any(f.kind == "c4" for f in self.filters),
            "data.filters: C4's rules edit lines of running text, which the parts of pairs are not; leave them out.",
        )

    def _check_pieces(self) -> None:
        kind, spans = self.objective.kind, 0
        if kind == "span_corruption":
            lengths = self.objective.span_lengths(self.length)
            spans = lengths.spans if self.objective.sentinels else 0
            require(
                round(lengths.noise / self.objective.mean_span) <= lengths.raw - lengths.noise,
                f"data.objective.density={self.objective.density} and data.objective.mean_span="
                f"{self.objective.mean_span} leave no text between the spans: lower the density or raise the mean.",
            )
        elif kind == "ul2":
            spans = max(lengths.spans for lengths in self.objective.denoised(self.length))
        require(
            spans <= self.vocabulary.sentinels,
            f"data.length={self.length} has {spans} spans but data.vocabulary.sentinels="
            f"{self.vocabulary.sentinels}: raise data.vocabulary.sentinels or data.objective.mean_span.",
        )
        missing = [name for name in self.objective.special_pieces if not self.vocabulary.has(name)]
        require(
            not missing,
            f"data.objective.kind={kind!r} needs special pieces: add {' '.join(missing)} to data.vocabulary.extra.",
        )

    @property
    def source_names(self) -> tuple[str, ...]:
        """What reports call each source."""
        return tuple(
            source.name or (source.kind if len(self.sources) == 1 else f"{source.kind}_{number}")
            for number, source in enumerate(self.sources)
        )

    @property
    def by_document(self) -> bool:
        """Whether rows are made of documents."""
        return self.documents or self.objective.needs_documents

    @property
    def packs(self) -> bool:
        """True if a row may hold several documents."""
        return self.by_document and self.objective.kind != "next_sentence"

    @property
    def mixes_by_size(self) -> bool:
        """True if the sizes of several sources decide on their shares of the rows."""
        return len(self.sources) > 1 and all(source.rate is None for source in self.sources)

    @property
    def packs_by_drawn_lengths(self) -> bool:
        """True if documents share rows by lengths that depend on random choices."""
        return self.by_document and self.pack and self.objective.draws_lengths

    @property
    def window(self) -> int:
        """Raw tokens that one row is made of, or that one document of a row has at most."""
        match self.objective.kind:
            case "span_corruption":
                return self.objective.span_lengths(self.length).raw
            case "ul2":
                return self.objective.denoised(self.length)[0].raw
            case "fill_in_the_middle":
                return self.length - 4
            case "next_sentence":
                return self.length - 3
            case "prefix" if self.packs_by_drawn_lengths:
                return self.length - 2  # so that two such documents, cut at the right places, fill both stacks
            case _:
                return self.length

    @property
    def lengths(self) -> dict[Literal["encoder", "decoder"], int]:
        """Length of a row's features in each stack that has any."""
        match self.objective.kind:
            case "span_corruption":
                return {"encoder": self.length, "decoder": self.objective.span_lengths(self.length).targets}
            case "ul2":
                targets = max(lengths.targets for lengths in self.objective.denoised(self.length))
                return {"encoder": self.length, "decoder": targets}
            case "prefix" | "sequence_to_sequence":
                return {"encoder": self.length, "decoder": self.target_length or self.length}
        return {"decoder" if self.objective.family == "decoder" else "encoder": self.length}
