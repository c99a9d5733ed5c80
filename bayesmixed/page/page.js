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
for (const mark of document.querySelectorAll(".mark")) {
  const said = mark.closest("figure").querySelector(".said");
  const tell = () => { said.textContent = mark.getAttribute("aria-label"); };
  mark.addEventListener("mouseenter", tell);
  mark.addEventListener("focus", tell);
}
