"use strict";
// Parts that are packed (reports/views/packed_parts.py) are unpacked when they are opened.
const groups = new Map();
const unpack = (group) => {
  if (!groups.has(group)) {
    const text = document.getElementById(group).textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    groups.set(group, new Response(stream).json());
  }
  return groups.get(group);
};
const fill = async (place) => {
  const [group, index] = place.dataset.part.split(".");
  delete place.dataset.part;
  place.innerHTML = (await unpack(group))[index];
};
// What stands open, or in what was opened; not what is in a part that is closed itself.
const fillOpen = (details) =>
  Promise.all(
    [...details.querySelectorAll("[data-part]")].filter((place) => place.closest("details").open).map(fill),
  );
document.addEventListener("toggle", (event) => event.target.open && fillOpen(event.target), true);
document.querySelectorAll("details[open]").forEach(fillOpen);
addEventListener("beforeprint", () => document.querySelectorAll("details[open]").forEach(fillOpen));

// A link into a closed part opens it; works without this script too, only less comfortably.
const reveal = () => {
  const id = decodeURIComponent(location.hash.slice(1));
  const part = id && document.getElementById(id);
  if (!part) return;
  for (let at = part; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  part.scrollIntoView();
  part.querySelector("summary")?.focus({ preventScroll: true });
};
addEventListener("hashchange", reveal);
reveal();

// Filters: text, verdict, area and level, over requirements, the table of builds, and tests.
const choice = (id) => document.getElementById(id).value;
const words = new WeakMap();
const textOf = (item) => {
  if (!words.has(item)) {
    const seen = item.querySelector("summary, th").textContent;
    words.set(item, `${seen} ${item.dataset.find ?? ""} ${item.id}`.toLowerCase());
  }
  return words.get(item);
};
const narrow = () => {
  const asked = choice("filter").toLowerCase().split(/\s+/).filter(Boolean);
  const [verdict, area, level] = ["by-verdict", "by-area", "by-level"].map(choice);
  const counts = {};
  const kept = new Set();
  const hide = (item, fits) => {
    item.hidden = !(fits && asked.every((word) => textOf(item).includes(word)));
    return !item.hidden;
  };
  const judged = (item) => !verdict || item.dataset.verdict.split("|").includes(verdict);
  for (const item of document.querySelectorAll(".requirement, tr.row")) {
    const placed = (!area || item.dataset.area === area) && (!level || item.dataset.level === level);
    const shown = hide(item, placed && judged(item));
    if (item.id && shown) counts.requirements = (counts.requirements ?? 0) + 1;
    if (item.id && placed) kept.add(item.id);
  }
  for (const item of document.querySelectorAll(".case")) {
    const placed = !(area || level) || item.dataset.find.split(" ").some((word) => kept.has(word));
    counts.tests = (counts.tests ?? 0) + hide(item, placed && judged(item));
  }
  for (const heading of document.querySelectorAll("h3[data-area]")) {
    const list = heading.nextElementSibling;
    heading.hidden = list.hidden = !list.querySelector(":scope > :not([hidden])");
  }
  for (const group of document.querySelectorAll("details.group"))
    group.hidden = !group.querySelector("tr.row:not([hidden])");
  const narrowed = asked.length || verdict || area || level;
  document.getElementById("shown").textContent = narrowed
    ? `${counts.requirements ?? 0} requirements, ${counts.tests ?? 0} tests`
    : "";
};
const filters = document.getElementById("filters");
for (const event of ["input", "change"]) filters.addEventListener(event, narrow);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(narrow));

// The squares of the matrix: read by click, arrows and Enter; one of each table can be reached by Tab.
const tell = (square) => {
  const [row, column] = [square.closest("tr"), square.closest("td").cellIndex];
  const head = square.closest("table").tHead.rows[0].cells[column];
  const place = document.getElementById("cell");
  const strong = document.createElement("strong");
  strong.textContent = `${head.textContent}: ${row.cells[0].textContent}`;
  place.replaceChildren(strong, document.createElement("br"), square.dataset.told);
  if (head.dataset.test) {
    const link = document.createElement("a");
    link.href = `#${head.dataset.test}`;
    link.textContent = "its test, with packets";
    place.append(document.createElement("br"), link);
  }
  place.hidden = false;
  document.querySelector(".sq.chosen")?.classList.remove("chosen");
  square.classList.add("chosen");
};
const beside = (square, key) => {
  const [row, column] = [square.closest("tr"), square.closest("td").cellIndex];
  const rows = [...square.closest("table").querySelectorAll("tbody tr:not(.area)")];
  const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[key];
  let [r, c] = [rows.indexOf(row) + down, column + right];
  for (; rows[r]?.cells[c]; r += down, c += right) {
    const found = rows[r].cells[c].querySelector("button");
    if (found) return found;
  }
  return null;
};
document.addEventListener("click", (event) => {
  const square = event.target.closest?.("button.sq");
  if (square) tell(square);
});
document.addEventListener("focusin", (event) => {
  const region = event.target.closest?.(".scroll");
  const first = region?.querySelector("button.sq");
  if (first && !region.querySelector('button.sq[tabindex="0"]')) first.tabIndex = 0;
});
document.addEventListener("keydown", (event) => {
  const square = event.target.closest?.("button.sq");
  const next = square && event.key.startsWith("Arrow") && beside(square, event.key);
  if (!next) return;
  event.preventDefault();
  square.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  tell(next);
});

// For whoever measures (reports/commands/bench_run.py): laid out, and the script has run.
document.documentElement.dataset.usable = document.body.offsetHeight && Math.round(performance.now());
