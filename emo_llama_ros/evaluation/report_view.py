"""A report on a terminal of any width."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.table import Table


def report_view(markdown: str) -> Markdown:
    """Return the report for a console; names that are wider than their column go on in the next line."""
    return _Report(markdown)


class _FoldedTable(TableElement):
    """Markdown of rich cuts a long word of a table off."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            if isinstance(part, Table):
                for column in part.columns:
                    column.overflow = "fold"
            yield part


class _Report(Markdown):
    elements = {**Markdown.elements, "table_open": _FoldedTable}  # noqa: RUF012
