"""How the reports look: one style sheet for light and dark screens and for paper.

Colours of series are those of Okabe and Ito ("Color Universal Design", 2008), darker on white and lighter on black, so
that they are told apart with any colour vision; shapes tell them apart as well.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --rule: #d0d7de; --tint: #f3f5f8;
  --s0: #0063a6; --s1: #b34700; --s2: #00795a; --s3: #9c3f80; --s4: #6b5b00;
  --good: #e6f4ea; --good-ink: #0b5a2b; --bad: #fde8e4; --bad-ink: #8f1d0a; --warn: #fff4d6; --warn-ink: #664a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161b; --ink: #e8ecf1; --soft: #a3aeba; --rule: #38414b;
  --tint: #1b2129; --s0: #6cb9ee; --s1: #f0a05a; --s2: #4fcfa6; --s3: #e79fcb; --s4: #e8d65a;
  --good: #123524; --good-ink: #a6e9bf; --bad: #471a12; --bad-ink: #ffc2b5; --warn: #3b3013; --warn-ink: #f6dc95; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 24px 20px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 12px; border-top: 2px solid var(--rule); }
h3 { font-size: 16px; margin: 28px 0 8px; }
p { margin: 6px 0; max-width: 78ch; }
.soft, figcaption .soft { color: var(--soft); }
.banner { margin: 14px 0; padding: 10px 14px; border-left: 5px solid; border-radius: 3px; }
.banner ul { margin: 4px 0 0; padding-left: 20px; }
.good { background: var(--good); color: var(--good-ink); }
.bad { background: var(--bad); color: var(--bad-ink); }
.warn { background: var(--warn); color: var(--warn-ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0 16px; font-size: 14px; font-variant-numeric: tabular-nums;
  min-width: 60%; }
caption { text-align: left; font-weight: 600; padding: 4px 0; }
caption .soft { font-weight: 400; }
th, td { padding: 5px 9px; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top; }
td { white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
tbody th, thead th:first-child { text-align: left; font-weight: 500; padding-left: 0; min-width: min(230px, 40vw); }
.words th, td.words { text-align: left; white-space: normal; }
td.wrong { color: var(--bad-ink); background: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 8px 20px; margin: 8px 0; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; }
code { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; background: var(--tint); padding: 2px 5px;
  border-radius: 3px; }
pre { background: var(--tint); padding: 10px 12px; border-radius: 3px; white-space: pre-wrap; margin: 6px 0; }
pre code { background: none; padding: 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 18px 20px; }
figure { margin: 8px 0; break-inside: avoid; min-width: 0; }
figcaption { font-size: 14px; font-weight: 500; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
.wide svg { min-width: 700px; }
svg text { font: 12px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: var(--ink);
  font-variant-numeric: tabular-nums; }
svg text.tick { fill: var(--soft); font-size: 11.5px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.reference { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; }
.mark { stroke: var(--ink); stroke-width: 1.5; }
.dashed { stroke-dasharray: 3 3; }
.area { fill: var(--s0); fill-opacity: .55; stroke: var(--s0); stroke-width: 1; }
.band { fill: var(--s0); fill-opacity: .22; }
.line { fill: none; stroke: var(--s0); stroke-width: 1.75; stroke-linejoin: round; }
.whisker { stroke: var(--s0); stroke-width: 3; stroke-opacity: .55; }
.cap { stroke: var(--s0); stroke-width: 1.5; }
.dot { fill: var(--s0); stroke: var(--paper); stroke-width: 1; }
.hollow { fill: var(--paper); stroke: var(--s0); stroke-width: 2; }
.thin { stroke-opacity: .35; }
.s1 { --s0: var(--s1); } .s2 { --s0: var(--s2); } .s3 { --s0: var(--s3); } .s4 { --s0: var(--s4); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; list-style: none; padding: 0; margin: 6px 0; }
.legend svg { display: inline-block; vertical-align: -2px; margin-right: 6px; }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --tint: #f4f4f4;
  --s0: #0063a6; --s1: #b34700; --s2: #00795a; --s3: #9c3f80; --s4: #6b5b00;
  --good: #fff; --good-ink: #000; --bad: #fff; --bad-ink: #000; --warn: #fff; --warn-ink: #000; }
  body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; } h2, h3 { break-after: avoid; }
  tr, .banner { break-inside: avoid; } table { font-size: 9.5px; } th, td { padding: 2px 5px; }
  td.words { white-space: normal; } tbody th, thead th:first-child { min-width: 100px; } h1 { font-size: 20px; }
  h2 { font-size: 15px; } h3 { font-size: 13px; } figcaption { font-size: 11px; }
  svg { print-color-adjust: exact; } }
"""
