"""One self-contained HTML page about a run: what was trained, what it scores, where it errs, how to repeat it.

`comparison` is the page that sets several runs side by side.
"""

from crisscross.report.comparison import RunRow, render_comparison, write_comparison
from crisscross.report.facts import BaselineRow, Curves, ImageRow, Report
from crisscross.report.page import render, write_report

__all__ = [
    "BaselineRow",
    "Curves",
    "ImageRow",
    "Report",
    "RunRow",
    "render",
    "render_comparison",
    "write_comparison",
    "write_report",
]
