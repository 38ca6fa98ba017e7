"""The pages of the documentation: their commands, presets, links and headings."""

import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from command_line import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "launch/README.md",
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
THEN = ("&&", "|")
"""Words between the commands of a line."""


class Line(NamedTuple):
    """A command of a page."""

    page: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def name_of(page: pathlib.Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [text for kind, text in FENCED.findall(page.read_text("utf-8")) if kind == language]


def commands(page: pathlib.Path) -> Iterator[Line]:
    """The commands of a page's bash blocks, without comments and what output goes to, and with the page's own
    variables, such as `pod="a b"`."""
    variables: dict[str, list[str]] = {}
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and (given := re.fullmatch(r"(\w+)=(.+)", words[0])) and len(words) == 1:
                variables[f"${given[1]}"] = shlex.split(given[2])
                continue
            words = [word for given in words for word in variables.get(given, [given])]
            words = words[: words.index(">")] if ">" in words else words
            ends = [-1, *(n for n, word in enumerate(words) if word in THEN), len(words)]
            for start, end in itertools.pairwise(ends):
                if words[start + 1 : end]:
                    yield Line(name_of(page), words[start + 1 : end])


def presets(page: pathlib.Path) -> dict[str, str]:
    """File name -> text of the presets that a page shows: Python blocks whose first line is `# configs/NAME.py`."""
    named = ((re.match(r"# (configs/\w+\.py)\n", text), text) for text in blocks(page, "python"))
    return {name[1]: text for name, text in named if name}


def prose(page: pathlib.Path) -> str:
    """The page without its fenced blocks."""
    return FENCED.sub("", page.read_text("utf-8"))


def links(page: pathlib.Path) -> list[str]:
    """The targets of a page's links that lie in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page)))
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors(page: pathlib.Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    bare = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in bare}


def paths(text: str) -> set[str]:
    """Files of the repository that a text names."""
    return set(
        re.findall(r"\b(?:configs|launch|benchmarks|tests|t5like|docs)/(?:[\w./]*\w)\.(?:py|sh|yaml|md)\b", text)
    )
