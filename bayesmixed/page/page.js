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
// One stop of the tab key for all marks of a drawing: arrows, Home and End move inside it.
const between = (x, low, high) => Math.min(Math.max(x, low), high);
const short = (x) => (Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(3))));
for (const drawing of document.querySelectorAll(".live")) {
  const marks = [...drawing.querySelectorAll(".mark")];
  const axis = drawing.dataset.axis;
  const said = drawing.closest("figure").querySelector(".said");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true"); // the line below the drawing says the same aloud
  drawing.closest("figure").append(tip);
  let at = 0;
  const beside = (mark) => {
    const frame = drawing.closest("figure").getBoundingClientRect(), box = mark.getBoundingClientRect();
    tip.hidden = false;
    const left = box.left + box.width / 2 - frame.left - tip.offsetWidth / 2;
    tip.style.left = `${between(left, 0, Math.max(frame.width - tip.offsetWidth, 0))}px`;
    tip.style.top = `${box.top - frame.top - tip.offsetHeight - 6}px`;
  };
  const say = (words) => {
    said.textContent = tip.textContent = words;
    beside(marks[at]);
  };
  const choose = (next) => {
    marks[at].classList.remove("on");
    marks[at].setAttribute("tabindex", "-1");
    at = next;
    marks[at].classList.add("on");
    marks[at].setAttribute("tabindex", "0");
    say(marks[at].getAttribute("aria-label"));
  };
  const stop = (mark) => Number(mark.dataset.stop || 30);
  // How probable it is to lie below a place of a curve: from the draws, not from the smooth line.
  const below = (mark, k) => {
    const shares = mark.dataset.below.split(" ").map(Number), last = shares.length - 1;
    const low = Number(mark.dataset.low), high = Number(mark.dataset.high);
    const place = between(k, 0, last), share = shares[place] / 10;
    mark.dataset.stop = place;
    const line = mark.querySelector(".cursor"), x = (100 * place) / last;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    say(`${mark.dataset.name}: ${share.toFixed(1)} % below ${short(low + ((high - low) * place) / last)}, ${(100 - share).toFixed(1)} % above`);
  };
  marks.forEach((mark, k) => mark.addEventListener("focus", () => choose(k)));
  // Where marks are in the drawing: thousands of them are measured once, not at every move.
  const start = () => drawing.getBoundingClientRect()[axis === "x" ? "left" : "top"];
  const middles = () => {
    const from = start();
    return marks.map((mark) => {
      const box = mark.getBoundingClientRect();
      return (axis === "x" ? box.left + box.width / 2 : box.top + box.height / 2) - from;
    });
  };
  let places = null;
  window.addEventListener("resize", () => { places = null; });
  const follow = (event) => {
    if (axis === "both") {
      const mark = event.target.closest(".mark");
      if (!mark) return;
      if (marks[at] !== mark || !mark.classList.contains("on")) choose(marks.indexOf(mark));
      const box = mark.querySelector("svg").getBoundingClientRect();
      const last = mark.dataset.below.split(" ").length - 1;
      below(mark, Math.round((last * (event.clientX - box.left)) / box.width));
      return;
    }
    const x = (axis === "x" ? event.clientX : event.clientY) - start();
    places = places || middles();
    const after = places.findIndex((place) => place >= x);
    const right = after < 0 ? marks.length - 1 : after;
    const left = Math.max(right - 1, 0);
    const next = x - places[left] < places[right] - x ? left : right;
    if (next !== at || tip.hidden) choose(next);
  };
  for (const kind of ["pointermove", "pointerdown"]) drawing.addEventListener(kind, follow);
  drawing.addEventListener("pointerleave", () => {
    if (!drawing.contains(document.activeElement)) tip.hidden = true;
  });
  drawing.addEventListener("focusout", (event) => { if (!drawing.contains(event.relatedTarget)) tip.hidden = true; });
  drawing.addEventListener("keydown", (event) => {
    const last = marks.length - 1, along = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (event.key === "Escape") { tip.hidden = true; return; }
    if (axis === "both" && along) {
      event.preventDefault();
      below(marks[at], stop(marks[at]) + along);
      return;
    }
    const next = Math.min(at + 1, last), before = Math.max(at - 1, 0);
    const to = { ArrowRight: next, ArrowDown: next, ArrowLeft: before, ArrowUp: before, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    marks[to].focus();
  });
}
