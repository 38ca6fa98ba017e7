"""No block of the pages is left out by the tests of their commands; the Chinese page has what the English one has."""

import re

import pytest
from command_line import ROOT
from documents import FENCED, PAGES, blocks, commands, name_of, presets, prose

from t5like.cli import COMMANDS

TRIED_ELSEWHERE = ("t5like.load(", "from_pretrained(")
"""Blocks of runs and of exported folders, which test_library.py and test_peft.py try."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_one_that_is_tried(page):
    """Commands, presets by their file names, other Python, and output of commands and trees, which have no language."""
    assert {kind for kind, _ in FENCED.findall(page.read_text("utf-8"))} <= {"bash", "python", ""}
    others = [block for block in blocks(page, "python") if not block.startswith("# configs/")]
    assert len(presets(page)) + len(others) == len(blocks(page, "python"))
    for block in others:
        if any(name in block for name in TRIED_ELSEWHERE):
            continue
        exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_within_the_text_exist(page):
    for name, after in re.findall(r"`t5like\s([a-z]+)(?:\s([a-z]+))?", prose(page)):
        assert name in COMMANDS or f"{name} {after}" in COMMANDS, name


def test_the_chinese_page_has_the_commands_of_the_quick_start():
    english, chinese = ([line.words for line in commands(ROOT / page)] for page in ("README.md", "README.zh.md"))
    ours = [words for words in english if "launch/test.sh" not in words]
    assert ours == [words for words in chinese if words in ours]
