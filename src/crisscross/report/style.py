"""The style sheet of a report: one column of text, light and dark, desk and phone."""

CSS = """
:root { color-scheme: light dark; --paper: #fcfbf8; --ink: #1d1f23; --faint: #666a72; --rule: #e2dfd8; --card: #f3f1eb;
  --accent: #2a62c4; --accent-ink: #ffffff; --soft: #2a62c433; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b; --ink: #e6e4df; --faint: #9a9ea7; --rule: #30343b;
  --card: #1e2127; --accent: #6c9cf0; --accent-ink: #0d1320; --soft: #6c9cf044; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1 { font-size: clamp(1.8rem, 5vw, 2.7rem); line-height: 1.12; letter-spacing: -0.02em; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; letter-spacing: -0.01em; margin: 4rem 0 .35rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 0 0 .4rem; font-weight: 600; }
p { max-width: 42rem; margin: .4rem 0 1rem; }
.summary { font-size: 1.15rem; color: var(--faint); }
.note, figcaption { color: var(--faint); font-size: .86rem; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1.6rem 2rem;
  margin: 2.4rem 0 0; padding: 1.4rem 0 0; border-top: 2px solid var(--ink); }
.headline div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.headline dt { color: var(--faint); font-size: .86rem; }
.headline dd { margin: 0; font-size: 1.85rem; line-height: 1.2; font-weight: 600; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.8rem 2rem;
  margin-top: 1.4rem; }
.charts section { min-width: 0; }
svg { display: block; width: 100%; height: auto; font-family: inherit; font-variant-numeric: tabular-nums; }
svg.bars { margin-top: 1rem; }
svg.confusion { min-width: 30rem; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--faint); }
svg .tick { fill: var(--faint); font-size: 13px; } svg .label { fill: var(--ink); font-size: 14px; }
svg .faint { fill: var(--faint); } svg .value { fill: var(--ink); font-size: 14px; font-weight: 600; }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .raw { stroke-width: 1; opacity: .35; } svg .dot { fill: var(--accent); stroke: var(--paper); stroke-width: 1; }
svg .bar { stroke: var(--ink); stroke-opacity: .35; } svg .notch { stroke: var(--ink); stroke-width: 2; }
svg .absent { fill: var(--faint); font-size: 14px; font-style: italic; }
svg .cell { fill: var(--card); } svg .heat { fill: var(--accent); }
svg .number { fill: var(--ink); font-size: 13px; } svg .deep { fill: var(--accent-ink); font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.legend { display: flex; flex-wrap: wrap; gap: .35rem 1.15rem; padding: 0; margin: 1rem 0 1.6rem; list-style: none;
  font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: .45rem; }
.legend i { width: .95em; height: .95em; border-radius: 3px; box-shadow: inset 0 0 0 1px #8888; }
.row { margin: 0 0 1.9rem; }
.row > div { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; }
.row figure { margin: 0; min-width: 0; }
.row img { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--card); }
.row .flat { image-rendering: pixelated; }
.row figcaption { margin-top: .25rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .45rem .9rem .45rem 0; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--faint); font-weight: 500; font-size: .84rem; vertical-align: bottom; }
td b { color: var(--accent); }
pre { background: var(--card); border-radius: 8px; padding: 1rem 1.2rem; overflow-x: auto; font-size: .84rem;
  line-height: 1.5; font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; font-size: .95rem; }
.versions { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.6rem; font-size: .9rem; }
.versions dt { color: var(--faint); } .versions dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 44rem) { body { font-size: 16px; } main { padding: 2rem 1.1rem 3rem; } h2 { margin-top: 2.8rem; }
  .row > div { grid-template-columns: repeat(2, 1fr); } .headline { grid-template-columns: 1fr 1fr; gap: 1.1rem; }
  .headline dd { font-size: 1.5rem; } }
@media print { .row, svg { break-inside: avoid; } }
"""
