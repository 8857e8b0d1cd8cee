"use strict";
// What all parts of the page share: its data, numbers in words, elements, colours, the filter.
// Names and texts of others only ever become text nodes and attributes: nothing here sets innerHTML.

const $ = (selector) => document.querySelector(selector);
const data = JSON.parse($("#data").textContent);
const MISSING = "–";

const rows = data.rows.values.map((values, place) => {
  const row = Object.fromEntries(data.rows.columns.map((name, column) => [name, values[column]]));
  return { ...row, command: data.commands[place] };
});
const cellOf = new Map(rows.map((row) => [row.model + "\n" + row.dataset, row]));
const cell = (model, dataset) => cellOf.get(model + "\n" + dataset);
const score = (row, name = "measures." + data.measure) => (row && row.status === "ok" ? row[name] ?? null : null);
const allDatasets = [...data.datasets, ...data.partial_datasets];

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// As Python prints it: a number that lies exactly between two goes to the even one (toFixed takes the larger).
function fixed(value, digits) {
  const exact = Math.abs(value).toFixed(digits + 30), kept = exact.slice(0, -30);
  const tie = exact.slice(-30) === "5" + "0".repeat(29);
  const even = "02468".includes(kept.replace(/\.$/, "").slice(-1));
  const text = tie && even ? kept.replace(/\.$/, "") : Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

const percent = (value) => (value === null || value === undefined ? MISSING : fixed(100 * value, 2));
const signed = (value) => (value > 0 ? "+" : "") + percent(value);

function plain(value) {
  if (value === null || value === undefined) return MISSING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", "−");
  const size = Math.abs(value);
  if (size && size < 1e-4) return value.toExponential(2).replace("-", "−");
  return size >= 1000 ? Number(value.toFixed(1)).toLocaleString("en") : fixed(value, size >= 100 ? 1 : size >= 10 ? 2 : 4);
}

const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// ---- blocks: compressed JSON, unpacked when first asked for -------------------------------------------------------

const unpacked = new Map();
function block(name) {
  const place = data.blocks.indexOf(name);
  if (place < 0) return Promise.resolve(null);
  if (!unpacked.has(name)) {
    const bytes = Uint8Array.from(atob($("#block-" + place).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(name, new Response(stream).json());
  }
  return unpacked.get(name);
}

// ---- filter: words that must all be in a name ---------------------------------------------------------------------

const filter = { models: "", datasets: "" };
const listeners = [];
const has = (name, words) => words.toLowerCase().split(/\s+/).every((word) => name.toLowerCase().includes(word));
const shownModels = () => data.models.filter((model) => has(model, filter.models));
const shownDatasets = (datasets = data.datasets) => datasets.filter((dataset) => has(dataset, filter.datasets));
const shownRow = (row) => has(row.model, filter.models) && has(row.dataset, filter.datasets);
const changed = (what) => listeners.forEach((listener) => listener(what));

function listenToFilter() {
  const say = () => {
    const models = shownModels().length, datasets = shownDatasets(allDatasets).length;
    $("#filter-said").textContent =
      `${models} of ${count(data.models.length, "model")}, ${datasets} of ${count(allDatasets.length, "dataset")}`;
  };
  for (const kind of ["models", "datasets"]) {
    $("#filter-" + kind).addEventListener("input", (event) => {
      filter[kind] = event.target.value.trim();
      say();
      changed("filter");
    });
  }
  $("#filter").addEventListener("submit", (event) => event.preventDefault());
  say();
}

// ---- colours: eight models have one of their own, the others are grey -----------------------------------------------

const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"];
const coloured = data.models.slice(0, SHAPES.length).map((model) => model);
const hue = (model) => { const place = coloured.indexOf(model); return place < 0 ? "none" : "c" + place; };

function toggleColour(model) {
  const place = coloured.indexOf(model);
  if (place >= 0) coloured[place] = null;
  else {
    const free = coloured.indexOf(null);
    if (free >= 0) coloured[free] = model;
    else if (coloured.length < SHAPES.length) coloured.push(model);
    else coloured[SHAPES.length - 1] = model;
  }
  changed("colours");
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const OUTLINES = {
  circle: "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0Z", square: "M-3.6-3.6H3.6V3.6H-3.6Z", "triangle-up": "M0-4.4L4.4 3.6H-4.4Z",
  diamond: "M0-5L4 0L0 5L-4 0Z", cross: "M-1.5-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
  "triangle-down": "M0 4.4L4.4-3.6H-4.4Z", "triangle-right": "M4.4 0L-3.6 4.4V-4.4Z", "triangle-left": "M-4.4 0L3.6 4.4V-4.4Z",
};

function swatch(place) {
  const drawn = svg("path", { d: OUTLINES[SHAPES[place]] ?? OUTLINES.circle });
  return svg("svg", { viewBox: "-6 -6 12 12", class: "swatch " + (place < 0 ? "none" : "c" + place), "aria-hidden": "true" }, drawn);
}

// What a CSS variable comes to here and now, for plots.
function colour(name) {
  const probe = document.body.appendChild(el("i"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function listenToTheme() {
  const buttons = [...document.querySelectorAll(".theme button")];
  const kept = () => { try { return localStorage.getItem("theme") || ""; } catch { return ""; } };
  const choose = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.theme === theme)));
  };
  choose(kept());
  for (const button of buttons) {
    button.addEventListener("click", () => {
      try { localStorage.setItem("theme", button.dataset.theme); } catch { /* the choice lasts as long as the page */ }
      choose(button.dataset.theme);
      changed("theme");
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed("theme"));
}

// ---- controls -----------------------------------------------------------------------------------------------------

function select(label, options, chosen, onchange, id) {
  const control = el("select", { id, onchange: (event) => onchange(event.target.value) });
  for (const option of options) {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    const made = el("option", { value }, text);
    made.selected = value === chosen;
    control.append(made);
  }
  return el("label", {}, label + " ", control);
}
