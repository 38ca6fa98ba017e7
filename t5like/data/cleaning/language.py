"""The language of a document, told by py3langid (Lui and Baldwin 2012), whose model comes with the package."""

import functools
from typing import Any

from t5like import config
from t5like.errors import UserError, did_you_mean

MOST = 10_000
"""Characters that are looked at, from the beginning; more tell nothing new."""


class Languages:
    """The model of one filter, ready to use.

    Raises:
      UserError: py3langid is not installed, or does not know one of the languages.
    """

    def __init__(self, filter: config.Language):
        self._filter, self._model = filter, _model()
        known = self._model.labels
        for language in filter.languages:
            if language not in known:
                raise UserError(f"data.filters: there is no language {language!r}{did_you_mean(language, known)}")

    def reason(self, parts: tuple[str, ...]) -> str:
        """The reason for which a document goes: its likeliest language, unless those of the filter are likely enough;
        empty if it stays."""
        ranked: list[tuple[str, float]] = self._model.rank("\n".join(parts)[:MOST])
        share = sum(probability for language, probability in ranked if language in self._filter.languages)
        if share >= self._filter.least_probability:
            return ""
        language, probability = ranked[0]
        wanted = ", ".join(self._filter.languages)
        return f"language: {language} ({probability:.2f}), not {wanted} ({share:.2f})"


@functools.cache
def _model() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError(
            "A filter of kind 'language' needs py3langid: pip install py3langid, or install t5like with the extra "
            "`language`."
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
