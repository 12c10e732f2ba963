"""docs/fidelity.md: every behaviour it lists is held by a test that is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
TEXT = (TESTS.parent / "docs" / "fidelity.md").read_text(encoding="utf-8")

COLUMNS = ("behaviour", "AWS", "here", "tests", "differs, or is a guess", "serverless-offline", "ministack")
SECTIONS = (
    "Connections",
    "Frames",
    "Messages",
    "@connections",
    "Quotas",
    "Functions",
    "Faults",
    "Not verifiable without AWS",
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of each table but its two first."""
    header = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            header = 0
            continue
        header += 1
        if header > 2:
            yield cells(line)


@cache
def functions(path: str) -> frozenset[str]:
    """The names of a test module's functions; none if there is no such module."""
    file = TESTS / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def problems(text: str) -> list[str]:
    """What is wrong with the tables of such a text."""
    found = []
    for row in rows(text):
        if len(row) != len(COLUMNS):
            found.append(f"{row[0]}: {len(row)} cells instead of {len(COLUMNS)}")
            continue
        found += [f"{row[0]}: nothing in {column}" for column, cell in zip(COLUMNS, row, strict=True) if not cell]
        tests = re.findall(r"`([^`]+)::([^`]+)`", row[COLUMNS.index("tests")])
        if not tests:
            found.append(f"{row[0]}: no test")
        for path, name in tests:
            if not name.startswith("test_") or name not in functions(path):
                found.append(f"{row[0]}: there is no {path}::{name}")
    return found


def test_every_row_has_all_its_cells_and_names_tests_that_exist() -> None:
    assert problems(TEXT) == []


def test_every_table_has_the_same_columns_and_every_section_a_row() -> None:
    heads = [cells(head) for head, _ in re.findall(r"^(\|.*)\n(\|[-|]+)$", TEXT, re.MULTILINE)]
    assert heads and all(tuple(head) == COLUMNS for head in heads)
    sections = {title: list(rows(rest)) for title, _, rest in (part.partition("\n") for part in TEXT.split("\n## "))}
    assert all(sections.get(title) for title in SECTIONS)


def test_every_page_that_is_cited_by_a_name_has_an_address() -> None:
    names = set(re.findall(r"\[([^\]\n]+)\](?![(:\[])", re.sub(r"`[^`]*`", "", TEXT)))
    addresses = set(re.findall(r"^\[([^\]]+)\]: https://", TEXT, re.MULTILINE))
    assert names == addresses


GOOD = """
| behaviour | AWS | here | tests | differs, or is a guess | serverless-offline | ministack |
|---|---|---|---|---|---|---|
| a | b \\| c | d | `localaws/test_fidelity.py::test_a_good_row_is_one` | e | f | g |
"""


def test_a_good_row_is_one() -> None:
    assert problems(GOOD) == []
    assert len(list(rows(GOOD))) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("`localaws/test_fidelity.py::test_a_good_row_is_one`", "soon", "no test"),
        ("::test_a_good_row_is_one", "::test_a_good_row", "there is no"),
        ("`localaws/test_fidelity.py::", "`localaws/test_nothing.py::", "there is no"),
        ("::test_a_good_row_is_one", "::problems", "there is no"),
        ("| d |", "|  |", "nothing in here"),
        ("| f | g |", "| f |", "6 cells"),
    ],
)
def test_a_row_that_lacks_something_is_found(old: str, new: str, says: str) -> None:
    assert old in GOOD
    [problem] = problems(GOOD.replace(old, new))
    assert says in problem
