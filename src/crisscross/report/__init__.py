"""Self-contained HTML pages: the report of one run, and the comparison of several."""

from crisscross.report.comparison import RunRow, render_comparison
from crisscross.report.facts import Curves, ImagePanels, ImageRow, Report
from crisscross.report.networks_page import NetworkColumn, NetworksReport, SceneRow, render_networks
from crisscross.report.page import render

__all__ = [
    "Curves",
    "ImagePanels",
    "ImageRow",
    "NetworkColumn",
    "NetworksReport",
    "Report",
    "RunRow",
    "SceneRow",
    "render",
    "render_comparison",
    "render_networks",
]
