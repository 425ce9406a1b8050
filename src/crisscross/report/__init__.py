"""One self-contained HTML page about a run: what was trained, what it scores, where it errs, how to repeat it."""

from crisscross.report.facts import BaselineRow, Curves, PictureRow, Report
from crisscross.report.page import render, write_report

__all__ = ["BaselineRow", "Curves", "PictureRow", "Report", "render", "write_report"]
