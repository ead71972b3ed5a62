"use strict";
// Parts that are packed (reports/views/packed_parts.py) are unpacked when they are opened.
const groups = new Map();
const unpack = (group) => {
  if (!groups.has(group)) {
    const text = document.getElementById(`pack-${group}`).textContent;
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
const fillOpen = (details) => details.querySelectorAll("[data-part]").forEach(fill);
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

const filter = document.getElementById("filter");
const tests = [...document.querySelectorAll("details.case")];
const words = new Map(tests.map((test) => [test, test.textContent.toLowerCase()]));
const narrow = () => {
  const asked = filter.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const test of tests) {
    test.hidden = !asked.every((word) => words.get(test).includes(word));
    shown += !test.hidden;
  }
  document.getElementById("shown").textContent = filter.value ? `${shown} of ${tests.length}` : "";
};
filter.addEventListener("input", narrow);

// For whoever measures (reports/commands/bench_run.py): laid out, and the script has run.
document.documentElement.dataset.usable = document.body.offsetHeight && Math.round(performance.now());
