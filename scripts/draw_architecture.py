"""Draws docs/architecture.svg: the packages of `crisscross` by layer, and the imports between them.

    python -m scripts.draw_architecture

The layers are those of tests/test_layering.py; the imports are read from the source. An arrow that others imply is left
out: where `cli` imports `engine` and `engine` imports `data`, none leads from `cli` to `data`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "crisscross"
TABLE = ROOT / "tests" / "test_layering.py"
PICTURE = ROOT / "docs" / "architecture.svg"

Graph = dict[str, set[str]]
# A package, or the place where an arrow from `package` to `target` crosses a layer in between.
Node = tuple[str, str, int]

WIDTH, MARGIN = 900, 70
BAND, BOX_HEIGHT, LETTER = 92, 34, 8.2
SWEEPS = 24


def read_layers(table: Path = TABLE) -> dict[int, tuple[str, ...]]:
    """The table LAYERS of tests/test_layering.py, by number, the highest first."""
    for node in ast.parse(table.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LAYERS" and node.value:
            return dict(sorted(ast.literal_eval(node.value).items(), reverse=True))
    raise SystemExit(f"{table} has no table LAYERS")


def read_imports(packages: Iterable[str], source: Path = SOURCE) -> Graph:
    """Package -> the packages that its modules import, wherever in a module the import stands."""
    imports: Graph = {name: set() for name in packages}
    for path in sorted(source.rglob("*.py")):
        package = path.relative_to(source).with_suffix("").parts[0]
        if package not in imports:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            parts = [name.split(".") for name in names if name.startswith("crisscross.")]
            imports[package] |= {name[1] for name in parts if name[1] in imports} - {package}
    return {name: targets for name, targets in imports.items() if targets or _exists(source, name)}


def _exists(source: Path, name: str) -> bool:
    return (source / name).is_dir() or (source / f"{name}.py").is_file()


def reduce(imports: Mapping[str, set[str]]) -> Graph:
    """The imports without those that follow from others."""

    def reached(name: str) -> set[str]:
        return set().union(*({target} | reached(target) for target in imports[name]))

    return {
        name: targets - set().union(*(reached(target) for target in targets)) if targets else set()
        for name, targets in imports.items()
    }


def arrange(
    layers: Mapping[int, Sequence[str]], arrows: Mapping[str, set[str]]
) -> tuple[list[list[Node]], list[list[Node]]]:
    """Rows of nodes from the top down, ordered so that arrows cross little, and the nodes that each arrow visits."""
    height = {name: row for row, names in enumerate(layers.values()) for name in names}
    rows: list[list[Node]] = [
        [(name, "", row) for name in names if name in arrows] for row, names in enumerate(layers.values())
    ]
    chains = []
    for name in sorted(arrows):
        for target in sorted(arrows[name]):
            between = [(name, target, row) for row in range(height[name] + 1, height[target])]
            for node in between:
                rows[node[2]].append(node)
            chains.append([(name, "", height[name]), *between, (target, "", height[target])])
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for chain in chains:
        for one, other in pairwise(chain):
            below.setdefault(one, []).append(other)
            above.setdefault(other, []).append(one)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        place = {node: (index + 0.5) / len(row) for row in rows for index, node in enumerate(row)}
        for row in rows if downwards else reversed(rows):
            neighbors = above if downwards else below
            wanted = {node: mean(place[other] for other in neighbors.get(node, [node])) for node in row}
            row.sort(key=lambda node: (wanted[node], node))
            place |= {node: (index + 0.5) / len(row) for index, node in enumerate(row)}
    return rows, chains


def positions(rows: Sequence[Sequence[Node]]) -> dict[Node, tuple[float, float]]:
    """The middle of each node in pixels."""
    found = {}
    for number, row in enumerate(rows):
        widths = [box_width(node) for node in row]
        gap = (WIDTH - MARGIN - 20 - sum(widths)) / (len(row) + 1)
        x = MARGIN + gap
        for node, width in zip(row, widths, strict=True):
            found[node] = x + width / 2, BAND * number + BAND / 2 + 10
            x += width + gap
    return found


def box_width(node: Node) -> float:
    return 0.0 if node[1] else LETTER * len(node[0]) + 22


def draw(layers: Mapping[int, Sequence[str]], imports: Mapping[str, set[str]]) -> str:
    """The picture as SVG."""
    rows, chains = arrange(layers, reduce(imports))
    place = positions(rows)
    height = BAND * len(rows) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#678"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, layer in enumerate(layers):
        top = BAND * number + 10
        if number % 2 == 0:
            lines.append(f'<rect x="10" y="{top}" width="{WIDTH - 20}" height="{BAND}" rx="6" fill="#f2f5f8"/>')
        lines.append(f'<text x="28" y="{top + BAND / 2 + 5:g}" font-size="18" fill="#9ab">{layer}</text>')
    for chain in chains:
        lines.append(
            f'<path d="{_curve([place[node] for node in chain])}" fill="none" stroke="#678" marker-end="url(#tip)"/>'
        )
    for node, (x, y) in place.items():
        if (width := box_width(node)) > 0:
            lines.append(
                f'<rect x="{x - width / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" '
                f'rx="5" fill="#fff" stroke="#246" stroke-width="1.5"/>'
            )
            lines.append(f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" fill="#123">{node[0]}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A path through the points, upright where it crosses a layer."""
    (x, y), (last_x, last_y) = points[0], points[-1]
    stops = [(x, y + BOX_HEIGHT / 2), *points[1:-1], (last_x, last_y - BOX_HEIGHT / 2 - 1)]
    words = [f"M{stops[0][0]:.1f} {stops[0][1]:.1f}"]
    for (x, y), (next_x, next_y) in pairwise(stops):
        middle = (y + next_y) / 2
        words.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}")
    return " ".join(words)


def picture() -> str:
    """What docs/architecture.svg has to hold."""
    layers = read_layers()
    imports = read_imports(name for names in layers.values() for name in names)
    used = {layer: tuple(name for name in names if name in imports) for layer, names in layers.items()}
    return draw({layer: names for layer, names in used.items() if names}, imports)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE)
