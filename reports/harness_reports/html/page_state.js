// What is shown: the state of the view, which the address keeps so that a view can be linked, and the filters.

const address = new URLSearchParams(location.search);
const kept = [];
const LONGEST = 400;

// state[key] from the address where `valid` takes what it says there, else `fallback`, which the address leaves out.
function bind(state, key, name, fallback, valid = () => true) {
  const given = Array.isArray(fallback) ? address.getAll(name) : address.get(name);
  const taken = given !== null && [given].flat().every((one) => one.length <= LONGEST && valid(one)) && (!Array.isArray(given) || address.has(name));
  state[key] = taken ? given : Array.isArray(fallback) ? [...fallback] : fallback;
  kept.push([name, () => (String(state[key]) === String(fallback) ? [] : [state[key]].flat())]);
}

const bindSwitch = (state, key, name, fallback) => {
  state[key] = address.has(name) ? address.get(name) === "1" : fallback;
  kept.push([name, () => (state[key] === fallback ? [] : [state[key] ? "1" : "0"])]);
};

// The column by which a table is sorted; with a minus, descending.
function bindSort(state, name, fallback) {
  const given = (address.get(name) ?? "").slice(0, LONGEST);
  Object.assign(state, given ? { key: given.replace(/^-/, ""), down: given.startsWith("-") } : fallback);
  kept.push([name, () => (state.key === fallback.key && state.down === fallback.down ? [] : [(state.down ? "-" : "") + state.key])]);
}

// Two numbers, "10-100", "10-" or "-100".
function bindRange(state, key, name) {
  const [, low, high] = (address.get(name) ?? "").match(/^(\d*\.?\d*)-(\d*\.?\d*)$/) ?? [null, "", ""];
  state[key] = { low, high };
  kept.push([name, () => (state[key].low || state[key].high ? [`${state[key].low}-${state[key].high}`] : [])]);
}

let waiting = 0;
function link() {
  const now = new URLSearchParams(kept.flatMap(([name, values]) => values().map((value) => [name, value])));
  return location.pathname + (now.size ? "?" + now : "") + location.hash;
}

function remember() {
  clearTimeout(waiting);
  waiting = setTimeout(() => { try { history.replaceState(null, "", link()); } catch { /* too often, or not allowed here */ } }, 150);
}

// The models that have a colour; an empty one is a colour that is free.
const ownColours = String(coloured);
if (address.has("colour")) {
  const chosen = address.getAll("colour").slice(0, SHAPES.length).map((model) => (data.models.includes(model) ? model : null));
  coloured.splice(0, Infinity, ...chosen);
}
kept.push(["colour", () => (String(coloured) === ownColours ? [] : coloured.map((model) => model ?? ""))]);

// ---- filters by name ------------------------------------------------------------------------------------------------
// Terms, all of which must hold: bm25 (part of the name), "bm25" (the whole name), bm25|minilm (either), -bm25 (not).

function terms(text) {
  const found = [];
  let either = false;
  for (const [, bar, minus, quoted, closed, word] of text.toLowerCase().matchAll(/(\|)|(-)?(?:"([^"]*)("?)|([^\s|]+))/g)) {
    if (bar) either = found.length > 0;
    else if (quoted || (word && word !== "-")) {
      const holds = word ? (name) => name.includes(word) : closed ? (name) => name === quoted : (name) => name.startsWith(quoted);
      if (either) found.at(-1).any.push(holds);
      else found.push({ not: Boolean(minus), any: [holds] });
      either = false;
    }
  }
  return found;
}

const filter = {};
bind(filter, "models", "models", "");
bind(filter, "datasets", "datasets", "");
const parsed = { models: ["", []], datasets: ["", []] };

function named(kind, name) {
  if (parsed[kind][0] !== filter[kind]) parsed[kind] = [filter[kind], terms(filter[kind])];
  const lower = name.toLowerCase();
  return parsed[kind][1].every((term) => term.not !== term.any.some((holds) => holds(lower)));
}

// ---- filters by what is known of a model ------------------------------------------------------------------------------

const RANGES = [["parameters", "Parameters, millions", 1e6], ["dim", "Dimensions", 1], ["max_tokens", "Maximum tokens", 1]];
const UNSTATED = "not stated";
const kindOf = (model) => facts(model).kind ?? UNSTATED;
const licenceOf = (model) => facts(model).licence ?? UNSTATED;
const wanted = {};
bind(wanted, "kinds", "type", [], (kind) => data.models.some((model) => kindOf(model) === kind));
bind(wanted, "licences", "licence", [], (licence) => data.models.some((model) => licenceOf(model) === licence));
RANGES.forEach(([name]) => bindRange(wanted, name, name));
bindSwitch(wanted, "complete", "complete", false);
bindSwitch(wanted, "unseen", "unseen", false);

const within = (value, { low, high }, unit) => (!low && !high) || (typeof value === "number" && value >= unit * (low || 0) && value <= unit * (high || Infinity));

function fits(model) {
  return (!wanted.kinds.length || wanted.kinds.includes(kindOf(model))) && (!wanted.licences.length || wanted.licences.includes(licenceOf(model))) &&
    RANGES.every(([name, , unit]) => within(facts(model)[name], wanted[name], unit)) &&
    (!wanted.complete || shownDatasets().every((dataset) => typeof scoreOf(model, dataset) === "number")) &&
    (!wanted.unseen || !shownDatasets(allDatasets).some((dataset) => cell(model, dataset)?.in_domain || figure(model, dataset)?.marks?.includes("in-domain")));
}

const shownDatasets = (datasets = data.datasets) => datasets.filter((dataset) => named("datasets", dataset));
const shownModel = (model) => named("models", model) && fits(model);
const shownModels = () => data.models.filter(shownModel);
const shownRow = (row) => shownModel(row.model) && named("datasets", row.dataset);
const narrowed = () => RANGES.filter(([name]) => wanted[name].low || wanted[name].high).length + (wanted.kinds.length > 0) + (wanted.licences.length > 0) + wanted.complete + wanted.unseen;

function sayFilter() {
  const models = shownModels().length, datasets = shownDatasets(allDatasets).length;
  $("#filter-said").textContent = `${models} of ${count(data.models.length, "model")}, ${datasets} of ${count(allDatasets.length, "dataset")}`;
  $("#more-count").textContent = narrowed() ? ` (${narrowed()})` : "";
  $("#filter-reset").hidden = !narrowed() && !filter.models && !filter.datasets;
}

function filtered() {
  sayFilter();
  remember();
  changed("filter");
}

function choices(title, values, chosen, texts) {
  const boxes = values.map((value) => checkbox(texts[value] ?? value, chosen().includes(value), (on) => {
    const now = on ? [...chosen(), value] : chosen().filter((one) => one !== value);
    chosen().splice(0, Infinity, ...now);
    filtered();
  }));
  return values.length > 1 ? el("fieldset", {}, el("legend", {}, title), ...boxes) : null;
}

function range(name, title) {
  if (!data.models.some((model) => typeof facts(model)[name] === "number")) return null;
  const field = (end, text) => {
    const made = el("input", { type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: text, "aria-label": `${title}: ${text}`, id: `${name}-${end}`,
      oninput: (event) => { wanted[name][end] = event.target.value; filtered(); } });
    made.value = wanted[name][end];
    return made;
  };
  return el("fieldset", {}, el("legend", {}, title), el("span", { class: "range" }, field("low", "at least"), field("high", "at most")));
}

function drawMore() {
  const of = (value) => [...new Set(data.models.map(value))].sort((a, b) => (a === UNSTATED) - (b === UNSTATED) || a.localeCompare(b));
  $("#more-fields").replaceChildren(...[
    choices("Type", of(kindOf), () => wanted.kinds, KINDS),
    ...RANGES.map(([name, title]) => range(name, title)),
    choices("Licence", of(licenceOf), () => wanted.licences, {}),
    el("fieldset", {}, el("legend", {}, "Only models"),
      checkbox("with a score on every shown dataset", wanted.complete, (on) => { wanted.complete = on; filtered(); }, "complete"),
      checkbox("not trained on a shown dataset", wanted.unseen, (on) => { wanted.unseen = on; filtered(); }, "unseen")),
  ].filter(Boolean));
}

function listenToFilter() {
  for (const kind of ["models", "datasets"]) {
    $("#filter-" + kind).value = filter[kind];
    $("#filter-" + kind).addEventListener("input", (event) => { filter[kind] = event.target.value.slice(0, LONGEST).trim(); filtered(); });
  }
  $("#filter").addEventListener("submit", (event) => event.preventDefault());
  $("#filter-reset").addEventListener("click", () => {
    Object.assign(filter, { models: "", datasets: "" });
    Object.assign(wanted, { kinds: [], licences: [], complete: false, unseen: false });
    RANGES.forEach(([name]) => { wanted[name] = { low: "", high: "" }; });
    for (const kind of ["models", "datasets"]) $("#filter-" + kind).value = "";
    drawMore();
    filtered();
    $("#filter-models").focus();
  });
  $("#copy-link").addEventListener("click", (event) => copy(new URL(link(), location.href).href, event.currentTarget));
  const more = $("#more"), close = (event) => { if (more.open && !more.contains(event.target)) more.open = false; };
  addEventListener("pointerdown", close);
  more.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    more.open = false;
    more.querySelector("summary").focus();
  });
  drawMore();
  sayFilter();
}
