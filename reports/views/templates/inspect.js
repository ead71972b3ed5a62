"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const detail = byId("detail");
let chosen = null;

const show = (row) => {
  const details = data[row.dataset.event];
  if (!details) return;
  chosen?.classList.remove("chosen");
  chosen = row;
  row.classList.add("chosen");
  byId("title").textContent = details.title;
  const facts = ["frame", "time", "connection", "sender", "host", "size"];
  byId("facts").textContent = facts.filter((key) => details[key]).map((key) => `${key} ${details[key]}`).join(", ");
  for (const key of ["agent", "fields", "bytes"]) {
    byId(key).textContent = details[key] ?? "";
    byId(key).hidden = byId(key).previousElementSibling.hidden = !details[key];
  }
  detail.hidden = false;
};
const close = () => {
  detail.hidden = true;
  chosen?.focus();
};
const rows = [...document.querySelectorAll("[data-event]")];
const drawing = byId("drawing");
drawing.addEventListener("click", (event) => {
  const row = event.target.closest("[data-event]");
  if (row) show(row);
});
drawing.addEventListener("keydown", (event) => {
  const row = event.target.closest("[data-event]");
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!row || !(step || event.key === "Enter" || event.key === " ")) return;
  event.preventDefault();
  const next = step ? rows[rows.indexOf(row) + step] : row;
  next?.focus();
  if (next && (!step || !detail.hidden)) show(next);
});
byId("close").addEventListener("click", close);
addEventListener("keydown", (event) => event.key === "Escape" && !detail.hidden && close());

let zoom = 100;
const scale = (by) => {
  zoom = Math.min(400, Math.max(50, zoom * by));
  for (const svg of drawing.querySelectorAll("svg")) svg.style.width = `${zoom}%`;
};
byId("larger").addEventListener("click", () => scale(1.25));
byId("smaller").addEventListener("click", () => scale(0.8));
