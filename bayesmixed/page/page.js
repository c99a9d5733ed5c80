"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.v;
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        const order = x !== undefined && y !== undefined
          ? Number(x) - Number(y)
          : a.cells[column].textContent.localeCompare(b.cells[column].textContent, undefined, { numeric: true });
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
for (const input of document.querySelectorAll("input.filter")) {
  const section = input.closest("section");
  const rows = section.querySelectorAll("table.sortable tbody tr");
  const count = section.querySelector(".count");
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(wanted);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length}`;
  });
}
// One stop of the tab key for all groups of a drawing: arrows, Home and End move inside it.
for (const drawing of document.querySelectorAll(".units")) {
  const marks = [...drawing.querySelectorAll(".mark")];
  const places = marks.map((mark) => Number(mark.lastElementChild.getAttribute("cx")));
  const said = drawing.closest("figure").querySelector(".said");
  let at = 0;
  const choose = (next) => {
    marks[at].classList.remove("on");
    marks[at].setAttribute("tabindex", "-1");
    at = next;
    marks[at].classList.add("on");
    marks[at].setAttribute("tabindex", "0");
    said.textContent = marks[at].getAttribute("aria-label");
  };
  marks.forEach((mark, k) => mark.addEventListener("focus", () => choose(k)));
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const x = ((event.clientX - box.left) * 860) / box.width;
    const after = places.findIndex((place) => place >= x);
    const right = after < 0 ? marks.length - 1 : after;
    const left = Math.max(right - 1, 0);
    choose(x - places[left] < places[right] - x ? left : right);
  });
  drawing.addEventListener("keydown", (event) => {
    const last = marks.length - 1;
    const to = { ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    marks[to].focus();
  });
}
