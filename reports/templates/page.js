"use strict";
document.documentElement.classList.toggle("scripted", "DecompressionStream" in window); // tables can be unpacked

// Highlight a method wherever it stands: pointing at a curve, a row or a name (or the focus on it) fades the other curves;
// choosing a name in a legend, or a tap, keeps it picked until the same is chosen again, or Escape.
let kept = null, hovered = null, picked = null;
function pick() {
  const next = hovered ?? kept;
  if (next === picked) return;
  picked = next;
  showPicked();
}
function showPicked() {
  for (const part of [...document.getElementsByClassName("picked")]) part.classList.remove("picked");
  document.body.classList.toggle("picking", picked !== null);
  if (picked === null) return;
  for (const part of document.querySelectorAll(`[data-method="${CSS.escape(picked)}"]`)) part.classList.add("picked");
}
function keep(method) {
  kept = method;
  for (const button of document.querySelectorAll(".legend button[data-method]")) {
    button.setAttribute("aria-pressed", String(button.dataset.method === kept));
  }
  pick();
}
const methodOf = (element) => element?.closest?.("[data-method]")?.dataset.method ?? null;
function methodNear(target, x, y) {
  const found = methodOf(target);
  if (found !== null || !target?.closest?.("figure svg")) return found;
  for (const reach of [4, 8]) { // lines are thin
    for (const [dx, dy] of [[0, -1], [0, 1], [-1, 0], [1, 0]]) {
      const near = methodOf(document.elementFromPoint(x + reach * dx, y + reach * dy));
      if (near !== null) return near;
    }
  }
  return null;
}
let pointer = null; // the last move, looked at once a frame
document.addEventListener("pointermove", (event) => {
  if (event.pointerType === "touch" || event.target.closest?.(".plot")) return;
  if (pointer === null) {
    requestAnimationFrame(() => {
      hovered = methodNear(pointer.target, pointer.clientX, pointer.clientY);
      pointer = null;
      pick();
    });
  }
  pointer = event;
});
document.documentElement.addEventListener("pointerleave", (event) => {
  if (event.pointerType === "touch") return;
  hovered = null;
  pick();
});
document.addEventListener("focusin", (event) => {
  if (event.target.closest(".plot")) return; // the explorer knows what is pointed at
  hovered = methodOf(event.target);
  pick();
});
document.addEventListener("focusout", () => { hovered = null; pick(); });
document.addEventListener("click", (event) => {
  if (event.target.closest("#explorer")) return;
  const button = event.target.closest(".legend button[data-method]");
  if (!button && (event.pointerType !== "touch" || event.target.closest("a, button, summary, select, input"))) return;
  const method = methodNear(event.target, event.clientX, event.clientY);
  if (method === kept || method === null) hovered = null;
  keep(method === kept ? null : method);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hovered = null;
  keep(null);
});

// Sort a table by a column: what was never reached, and then what is not known, last in either direction.
const keyOf = (row, column) => {
  const cell = row.cells[column];
  const key = cell?.dataset.key ?? cell?.textContent.trim() ?? "";
  const number = Number(key === "inf" ? Infinity : key);
  if (key === "" || key === "nan" || key === "–") return [2, 0];
  return number === Infinity ? [1, 0] : Number.isNaN(number) ? [0, key] : [0, number];
};
const collator = new Intl.Collator("en", { numeric: true });
function compare([rank, a], [otherRank, b], up) {
  if (rank !== otherRank) return rank - otherRank;
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
  return up ? order : -order;
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
        rows.sort(([a], [b]) => compare(a, b, up)); // stable, in either direction
        body.append(...rows.map(([, row]) => row));
      }
    });
  });
}

// The tables behind the figures: CSV, compressed, in base64.
let tables = null;
async function unpack(name) {
  tables ??= JSON.parse(document.getElementById("tables").textContent);
  const bytes = Uint8Array.from(atob(tables[name]), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
document.addEventListener("click", async (event) => {
  const name = event.target.closest(".download")?.dataset.table;
  if (!name) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await unpack(name)], { type: "text/csv;charset=utf-8" }));
  link.download = `optbench-${name.replace(/[^\w.-]+/g, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

// The list of problems closes like a menu.
for (const menu of document.querySelectorAll("nav details")) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target) || event.target.closest("a")) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
