"""Tables and progress on a terminal; where there is none, plain tables and a line for each step."""

# Where rich is not installed, as where lint alone runs, its classes are unknown.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import time
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from bench.report import Table

WIDTH = 180
"""Of a table, at most: where a terminal is narrower, its lines are broken by the terminal, and no figure is cut."""


class Steps(Progress):
    """Progress that says when a step starts and draws no bar, for logs."""

    def add_task(self, description: str, *arguments: Any, **options: Any) -> Any:
        self.console.print(f"{time.strftime('%H:%M:%S')}  {description} ...")
        return super().add_task(description, *arguments, **options)


class Out:
    """Where results are printed."""

    def __init__(self) -> None:
        self._console = Console(markup=False, highlight=False)
        self._wide = Console(markup=False, highlight=False, width=max(WIDTH, self._console.width))

    def progress(self) -> Progress:
        """To be entered; what is printed meanwhile stands above its bars."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        if self._console.is_terminal:
            return Progress(*columns, console=self._console, transient=True, refresh_per_second=4)
        return Steps(*columns, console=self._console, disable=True)

    def show(self, table: Table) -> None:
        drawn = RichTable(box=box.SIMPLE_HEAD if self._console.is_terminal else box.MARKDOWN)
        for number, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in table.rows:
            drawn.add_row(*row)
        self._wide.print(f"\n{table.title}\n")
        self._wide.print(drawn)
        for note in table.notes:
            self.say(f"  {note}")

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
