"""Style and script of the pages that `db1 inspect --html` writes."""

from __future__ import annotations

import html

from db1 import pages

STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --dim: #667; --line: #ccd; --pop: #fff;
  --text: #bfe8c4; --patch: #eac5ee; --number: #bde5ee; --discrete: #c6d2f7; --separator: #d8d8de;
  --action: #fbe29a; --padding: #f0f0f2; --error: #b3261e; --warning: #8a5a00; --info: #245a9c; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --fg: #e4e7ea; --dim: #99a;
  --line: #333a42; --pop: #1f242a; --text: #1f5a2b; --patch: #5f2c66; --number: #155563;
  --discrete: #2e3f80; --separator: #40444b; --action: #6d5310; --padding: #22262b;
  --error: #ff8a80; --warning: #ffc966; --info: #8ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1rem; background: var(--bg); color: var(--fg);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
.dim { color: var(--dim); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9em; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { white-space: nowrap; }
.error b { color: var(--error); } .warning b { color: var(--warning); }
.info b { color: var(--info); }
.bar { background: var(--number); height: 1em; min-width: 1px; } .bars td { width: 1%; white-space:
  nowrap; } .bars td.wide { width: 60%; }
.tools { position: sticky; top: 0; background: var(--bg); padding: .5rem 0; z-index: 1;
  display: flex; flex-wrap: wrap; gap: .3rem .8rem; align-items: center;
  border-bottom: 1px solid var(--line); }
.tools input[type=search] { flex: 1 1 12rem; min-width: 9rem; padding: .3rem; font: inherit; }
.tools label { white-space: nowrap; font-size: .85rem; }
.step { display: flex; gap: .6rem; margin: .35rem 0; align-items: flex-start; }
.step > .name { flex: 0 0 6.2rem; font-size: .8rem; color: var(--dim); }
.cells { display: flex; flex-wrap: wrap; gap: 2px; flex: 1; min-width: 0; align-items: flex-start; }
.cell { font: 12px/1.25 ui-monospace, monospace; padding: 1px 4px; border-radius: 3px;
  cursor: default; border: 1px solid transparent; white-space: pre; max-width: 100%;
  overflow: hidden; text-overflow: ellipsis; }
.cell.loss { border-color: var(--error); } .cell.changed { text-decoration: underline dotted; }
.cell.off { opacity: .12; } .cell:focus { outline: 2px solid var(--fg); }
.prompt .cell { filter: saturate(.55); }
.k-text { background: var(--text); } .k-image-patch { background: var(--patch); }
.k-number, .k-number-patch { background: var(--number); }
.k-discrete-value { background: var(--discrete); }
.k-separator { background: var(--separator); } .k-padding { background: var(--padding); }
.k-action-number, .k-action-value { background: var(--action); font-weight: 600; }
img { image-rendering: pixelated; max-width: 100%; height: auto; min-width: 64px; display: block; }
#tip { position: fixed; display: none; max-width: min(22rem, 92vw); padding: .5rem .7rem;
  z-index: 2; background: var(--pop); border: 1px solid var(--line); border-radius: 6px;
  font-size: .82rem; box-shadow: 0 4px 18px #0005; pointer-events: none; }
#tip td { border: 0; padding: 0 .6rem 0 0; }
@media (max-width: 600px) { body { padding: .6rem; } .step { display: block; } }
"""

SEQUENCE_SCRIPT = """
const tokens = JSON.parse(document.getElementById("tokens").textContent);
const cells = [...document.querySelectorAll(".cell")];
const tip = document.getElementById("tip");
const search = document.getElementById("search");
const boxes = [...document.querySelectorAll(".tools input[type=checkbox]")];
const loss = document.getElementById("only-loss");
const told = t => Object.entries(t).filter(([k, v]) => v !== null && k !== "is_target")
  .map(([k, v]) => [k.replace(/_/g, " "), typeof v === "string" ? JSON.stringify(v) : String(v)])
  .concat([["loss", t.is_target ? "yes" : "no"]]);
const haystack = tokens.map(t => told(t).map(p => p.join(" ")).join(" ").toLowerCase());
function show(cell) {
  const table = document.createElement("table");
  for (const [key, value] of told(tokens[cell.dataset.n])) {
    const row = table.insertRow();
    row.insertCell().textContent = key;
    row.insertCell().textContent = value;
  }
  tip.replaceChildren(table);
  tip.style.display = "block";
  const at = cell.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const below = at.bottom + 6 + size.height < innerHeight;
  tip.style.top = Math.max(4, below ? at.bottom + 6 : at.top - size.height - 6) + "px";
  tip.style.left = Math.max(4, Math.min(at.left, innerWidth - size.width - 8)) + "px";
}
function hide() { tip.style.display = "none"; }
for (const cell of cells) {
  cell.addEventListener("mouseenter", () => show(cell));
  cell.addEventListener("focus", () => show(cell));
  cell.addEventListener("mouseleave", hide);
  cell.addEventListener("blur", hide);
}
function filter() {
  const kinds = new Set(boxes.filter(b => b.checked && b.value).map(b => b.value));
  const wanted = search.value.trim().toLowerCase();
  let count = 0;
  for (const cell of cells) {
    const n = cell.dataset.n, t = tokens[n];
    const on = kinds.has(t.kind) && (!loss.checked || t.is_target)
      && (!wanted || haystack[n].includes(wanted));
    cell.classList.toggle("off", !on);
    count += on;
  }
  document.getElementById("count").textContent = count + " of " + cells.length + " tokens";
}
search.addEventListener("input", filter);
for (const box of boxes) box.addEventListener("change", filter);
filter();
"""


def page(title: str, body: str, script: str = "") -> str:
    """A whole HTML file.

    Args:
        title: Plain text.
        body: HTML.
        script: JavaScript, run when the page is there.
    """
    whole = f"<main><h1>{escape(title)}</h1>\n{body}</main>"
    return pages.page(title, whole, style=STYLE, script=script)


def escape(text: object) -> str:
    """Plain text -> HTML, for contents and attributes."""
    return html.escape(str(text), quote=True)
