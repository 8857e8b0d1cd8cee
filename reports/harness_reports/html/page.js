"use strict";
// What all parts of the page share: its data, numbers in words, elements, colours, controls, downloads.
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
const facts = (model) => data.facts[model] ?? {};
const listeners = [];
const changed = (what) => listeners.forEach((listener) => listener(what));
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

// All digits that mean something, without the noise of binary fractions: 0.9279999999999999 is 0.928.
const exact = (value) => (typeof value === "number" ? String(Number(value.toPrecision(12))).replace("-", "−") : String(value));
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

// ---- colours: eight models have one of their own, the others are grey -----------------------------------------------

const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"];
const coloured = data.models.slice(0, SHAPES.length);
// A run of a row that is a mean over seeds looks like that row.
const rowOf = new Map(Object.entries(data.seeds).flatMap(([row, models]) => models.map((model) => [model, row])));
const placeOfColour = (model) => coloured.indexOf(rowOf.get(model) ?? model);

function toggleColour(model) {
  const place = coloured.indexOf(model);
  if (place >= 0) coloured[place] = null;
  else {
    const free = coloured.indexOf(null);
    if (free >= 0) coloured[free] = model;
    else if (coloured.length < SHAPES.length) coloured.push(model);
    else coloured[SHAPES.length - 1] = model;
  }
  remember();
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

// A name that may wrap after its punctuation, and one short enough for a plot that is still no other model's.
const breakable = (name) => el("span", { class: "name", title: name }, ...name.split(/(?<=[:,(=/])/).flatMap((part, at) => (at ? [el("wbr"), part] : [part])));
const ends = (name) => (name.length > 36 ? name.slice(0, 15) + "…" + name.slice(-20) : name);
const alike = new Map();
for (const model of data.models) alike.set(ends(model), (alike.get(ends(model)) ?? 0) + 1);
const brief = (model) => (alike.get(ends(model)) === 1 ? ends(model) : model);

// ---- controls -----------------------------------------------------------------------------------------------------

// options: values, [value, text] pairs, or {group, options}.
function select(label, options, chosen, onchange, id) {
  const control = el("select", { id, onchange: (event) => { onchange(event.target.value); remember(); } });
  const add = (place, option) => {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    const made = el("option", { value }, text);
    made.selected = value === chosen;
    place.append(made);
  };
  for (const option of options) {
    if (!option.group) add(control, option);
    else {
      const group = control.appendChild(el("optgroup", { label: option.group }));
      option.options.forEach((one) => add(group, one));
    }
  }
  return el("label", {}, label + " ", control);
}

function checkbox(label, checked, onchange, id) {
  const control = el("input", { type: "checkbox", id, onchange: (event) => { onchange(event.target.checked); remember(); } });
  control.checked = checked;
  return el("label", { class: "check" }, control, " " + label);
}

const button = (label, attributes, ...children) => el("button", { type: "button", class: "quiet", ...attributes }, label, ...children);

// ---- downloads and the clipboard ------------------------------------------------------------------------------------

function download(name, content, type) {
  const address = content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

const fileName = (...parts) => parts.join(" ").toLowerCase().replace(/[^a-z0-9@.]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80);

// RFC 4180; text that a spreadsheet would take for a formula gets an apostrophe in front, as in the command's CSV.
function csv(table) {
  const field = (value) => {
    if (value === null || value === undefined) return "";
    const first = String(value).replace(/^[\p{Cc}\p{Cf}\p{Z}]+/u, "").normalize("NFKC")[0] ?? "";
    const text = typeof value !== "string" ? String(value) : ("=+-@".includes(first) && first ? "'" : "") + value.replace(/[\p{Cc}]/gu, "\ufffd");
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  return table.map((row) => row.map(field).join(",") + "\r\n").join("");
}

// Where the page is not served securely there is no clipboard but the old one.
async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const place = (pressed.closest("dialog") ?? document.body).appendChild(el("textarea", { class: "unseen", "aria-hidden": "true" }));
    place.value = text;
    place.select();
    document.execCommand("copy");
    place.remove();
    pressed.focus();
  }
  $("#said").textContent = "Copied.";
  const label = pressed.textContent;
  pressed.textContent = "Copied";
  setTimeout(() => { pressed.textContent = label; $("#said").textContent = ""; }, 1500);
}
