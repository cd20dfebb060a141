"use strict";
// Pick a method out: pointing at a curve, a row or a name, or choosing a name in a legend, fades the other curves.
let kept = null;
function pick(method) {
  document.body.classList.toggle("picking", method !== null);
  for (const part of document.querySelectorAll("[data-method]")) {
    part.classList.toggle("picked", part.dataset.method === method);
  }
}
function methodAt(event) {
  const part = event.target.closest("[data-method]");
  return part ? part.dataset.method : null;
}
document.addEventListener("pointerover", (event) => {
  if (event.pointerType === "mouse") pick(methodAt(event) ?? kept);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest(".legend button");
  if (!button) return;
  kept = kept === button.dataset.method ? null : button.dataset.method;
  for (const other of document.querySelectorAll(".legend button")) {
    other.setAttribute("aria-pressed", String(other.dataset.method === kept));
  }
  pick(kept);
});

// Sort a table by a column: numbers first, those that were never reached last in either direction.
function compare(a, b, up) {
  const [x, y] = [Number(a), Number(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) {
    const [s, t] = [a === "inf", b === "inf"];
    return s || t ? s - t : (up ? 1 : -1) * a.localeCompare(b);
  }
  return (up ? 1 : -1) * (x - y);
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows];
      rows.sort((a, b) => compare(a.cells[column].dataset.key, b.cells[column].dataset.key, up));
      body.append(...rows);
    });
  });
}
