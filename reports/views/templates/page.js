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
  if (place.querySelector("tr.row")) narrow();
};
// What stands open, or in what was opened; not what is in a part that is closed itself.
const fillOpen = (details) =>
  Promise.all(
    [...details.querySelectorAll("[data-part]")].filter((place) => place.closest("details").open).map(fill),
  );
document.addEventListener("toggle", (event) => event.target.open && fillOpen(event.target), true);
// What stands open from the start is filled when it comes near.
const near = new IntersectionObserver(
  (seen) => seen.forEach((entry) => entry.isIntersecting && fillOpen(entry.target)),
  { rootMargin: "600px" },
);
document.querySelectorAll("details[open]").forEach((details) => near.observe(details));

// The rows of the first tests are in the page; those of the later tests are data until they are shown.
const STEP = 200;
const more = document.getElementById("more");
const firstRows = [...document.querySelectorAll(".case")].map((item) => ({
  id: item.id,
  verdict: item.dataset.verdict,
  find: item.dataset.find,
  item,
}));
let laterRows = null;
const load = async () => {
  const [rows, places] = more ? await Promise.all(["rows", "pack-places"].map(unpack)) : [[], []];
  laterRows ??= rows.map(([id, verdict, find, summary, html], n) => {
    return { id, verdict, find, summary, html, drawing: places[n], item: null };
  });
};
const build = (row) => {
  const shell = document.createElement("template");
  shell.innerHTML = row.html;
  row.item = document.importNode(shell.content, true).firstElementChild;
  if (!row.drawing) return;
  const figure = document.createElement("figure");
  figure.dataset.part = row.drawing;
  row.item.append(figure);
};
// Puts the rows that were built in their places, in the order of the tests.
const insertBuilt = () => {
  let next = more;
  for (const { item } of [...(laterRows ?? [])].reverse()) {
    if (!item) continue;
    if (!item.isConnected) {
      next.before(item);
      if (item.open) near.observe(item);
    }
    next = item;
  }
};

// A link into a closed part opens it; works without this script too, only less comfortably.
const reveal = async () => {
  const id = decodeURIComponent(location.hash.slice(1));
  if (!id) return;
  if (!document.getElementById(id) && more) {
    await load();
    laterRows.filter((row) => row.id === id).forEach(build);
    insertBuilt();
  }
  const part = document.getElementById(id);
  if (!part) return;
  part.hidden = false;
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
const wordsOf = (row) => {
  row.words ??= row.item && !row.html
    ? textOf(row.item)
    : `${row.summary} ${row.find} ${row.id}`.toLowerCase();
  return row.words;
};
// Shows the tests that fit, of the later ones at most `limit`; gives how many fit.
let limit = 0;
const narrowTests = (fits, narrowed) => {
  if (narrowed) limit = Math.max(limit, STEP);
  if (narrowed && !laterRows) load().then(narrow);
  let [fitting, built, left] = [0, 0, 0];
  for (const row of firstRows) {
    row.item.hidden = !fits(row);
    fitting += !row.item.hidden;
  }
  for (const row of laterRows ?? []) {
    const fit = fits(row);
    if (fit && !row.item && built < limit) build(row);
    if (row.item) row.item.hidden = !fit;
    fitting += fit;
    built += fit && Boolean(row.item);
    left += fit && !row.item;
  }
  insertBuilt();
  if (laterRows && more) {
    more.hidden = !left;
    more.textContent = `Show ${Math.min(left, STEP)} more of ${left} tests`;
  }
  return fitting;
};
const narrow = () => {
  const asked = choice("filter").toLowerCase().split(/\s+/).filter(Boolean);
  const [verdict, area, level] = ["by-verdict", "by-area", "by-level"].map(choice);
  const counts = {};
  const kept = new Set();
  const areas = new Set();
  const hide = (item, fits) => {
    item.hidden = !(fits && asked.every((word) => textOf(item).includes(word)));
    return !item.hidden;
  };
  const judged = (item) => !verdict || item.dataset.verdict.split("|").includes(verdict);
  for (const item of document.querySelectorAll(".requirement, tr.row")) {
    const placed = (!area || item.dataset.area === area) && (!level || item.dataset.level === level);
    const shown = hide(item, placed && judged(item));
    if (item.id && shown) {
      counts.requirements = (counts.requirements ?? 0) + 1;
      areas.add(item.dataset.area);
    }
    if (item.id && placed) kept.add(item.id);
  }
  const narrowed = asked.length || verdict || area || level;
  counts.tests = narrowTests((row) => {
    const placed = !(area || level) || row.find.split(" ").some((word) => kept.has(word));
    return placed && (!verdict || row.verdict === verdict) && asked.every((word) => wordsOf(row).includes(word));
  }, narrowed);
  for (const heading of document.querySelectorAll("h3[data-area]")) {
    const list = heading.nextElementSibling;
    heading.hidden = list.hidden = !list.querySelector(":scope > :not([hidden])");
  }
  for (const group of document.querySelectorAll("details.group")) group.hidden = !areas.has(group.dataset.area);
  document.getElementById("shown").textContent = narrowed
    ? `${counts.requirements ?? 0} requirements, ${counts.tests ?? 0} tests`
    : "";
};
const filters = document.getElementById("filters");
for (const event of ["input", "change"]) filters.addEventListener(event, narrow);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(narrow));

more?.addEventListener("click", async () => {
  await load();
  const before = new Set(document.querySelectorAll(".case"));
  limit += STEP;
  narrow();
  [...document.querySelectorAll(".case")].find((item) => !before.has(item))?.querySelector("summary").focus();
});
// Paper has every row that fits, and what stands open; the rows are unpacked in good time.
const whenIdle = window.requestIdleCallback ?? setTimeout;
addEventListener("beforeprint", () => {
  limit = Infinity;
  narrow();
  document.querySelectorAll("details[open]").forEach(fillOpen);
});

// The squares of the matrix: read by click, arrows and Enter; one of each table can be reached by Tab.
const tell = (square) => {
  const [row, column] = [square.closest("tr"), square.closest("td").cellIndex];
  const head = square.closest("table").tHead.rows[0].cells[column];
  const place = document.getElementById("cell");
  const strong = document.createElement("strong");
  strong.textContent = `${head.textContent}: ${row.cells[0].textContent}`;
  place.replaceChildren(strong, document.createElement("br"), square.dataset.text);
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

// For whoever measures (reports/commands/benchmark_run.py): laid out, and the script has run.
whenIdle(load);
document.documentElement.dataset.usable = document.body.offsetHeight && Math.round(performance.now());
