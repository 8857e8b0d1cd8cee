// One result with everything that is stored of it, one model, and the table of all results.

const open = { result: "", on: "", about: "" };
const GROUPS = [
  ["measures", "Metrics"], ["geometry.documents", "Geometry of the document vectors"], ["geometry.queries", "Geometry of the query vectors"],
  ["geometry.hubness", "Hubness"], ["seconds", "Seconds"], ["counts", "Counts"], ["index", "Approximate index"], ["manifest", "Model, dataset and run"],
];
const groupOf = (key) => GROUPS.find(([prefix]) => key.startsWith(prefix + "."))?.[1] ?? "Result";
const inUnits = (key, value) => (key.endsWith("memory_bytes") && typeof value === "number" ? value / 2 ** 30 : value);

function list(pairs) {
  return el("dl", {}, ...pairs.flatMap(([title, value, key]) => [el("dt", { title: key }, title), el("dd", {}, value)]));
}

function commands(title, texts) {
  return texts.map((text, at) => el("div", {}, el("div", { class: "heading" }, el("h3", {}, at ? "" : title),
    button("Copy command", { onclick: (event) => copy(text, event.currentTarget) })), el("pre", { tabindex: "0" }, text)));
}

function showDialog(title, content, about) {
  Object.assign(open, { result: "", on: "", about: "" }, about);
  remember();
  $("#cell-title").textContent = title;
  $("#cell-content").replaceChildren(...content.filter(Boolean));
  if (!$("#cell").open) $("#cell").showModal();
}

function showCell(row) {
  const groups = new Map();
  for (const key of data.rows.columns) {
    if (row[key] === null || row[key] === undefined || ["model", "dataset", "command"].includes(key)) continue;
    const title = groupOf(key), value = inUnits(key, row[key]);
    groups.set(title, [...(groups.get(title) ?? []), [called(key), typeof value === "boolean" ? plain(value) : exact(value), key]]);
  }
  const lists = [...groups].map(([title, pairs]) => el("section", {}, el("h3", {}, title), list(pairs)));
  showDialog(`${row.model} on ${row.dataset}`, [...commands("Command", [row.command].filter(Boolean)), ...lists], { result: row.model, on: row.dataset });
}

function showModel(model) {
  const known = facts(model), pairs = [
    ["Type", known.kind && (KINDS[known.kind] ?? known.kind)], ["Description", known.summary], ["Parameters", known.parameters && plain(known.parameters)],
    ["Dimensions", known.dim && plain(known.dim)], ["Maximum tokens", known.max_tokens && plain(known.max_tokens)], ["Data type", known.dtype],
    ["Licence", known.licence], ["Trained on", known.trained_on?.join(", ")],
  ].filter(([, value]) => value);
  const own = [...new Set(rows.filter((row) => row.model === model).map((row) => row.command).filter(Boolean))];
  showDialog(model, [list(pairs), ...commands(own.length > 1 ? "Commands" : "Command", own)], { about: model });
}

function startDialog() {
  for (const key of ["result", "on", "about"]) bind(open, key, key, "");
  $("#cell").addEventListener("close", () => { Object.assign(open, { result: "", on: "", about: "" }); remember(); });
  $("#cell-close").addEventListener("click", () => $("#cell").close());
  const row = cell(open.result, open.on);
  if (row) showCell(row);
  else if (data.models.includes(open.about)) showModel(open.about);
  else Object.assign(open, { result: "", on: "", about: "" });
}

// ---- all results ------------------------------------------------------------------------------------------------------

const STEP = 60;
const every = { limit: STEP, state: {} };

function drawEvery() {
  const columns = ["model", "dataset", "status"].map((name) => ({
    key: name, title: called(name), words: true, head: name === "model", value: (row) => row[name],
    show: (row) => name === "model" ? breakable(row.model) : name !== "dataset" ? String(row[name])
      : el("button", { type: "button", class: "figure", onclick: () => showCell(row), "aria-label": `${row.dataset}, ${row.model}: how it was made` }, row.dataset),
  }));
  for (const key of data.rows.columns.filter((key) => key.startsWith(every.group + "."))) {
    if (every.group === "seconds" && key.includes("/")) continue;
    columns.push({
      key, title: called(key), name: key, words: rows.some((row) => typeof row[key] === "string"),
      hint: [data.definitions[key.split(".").pop()], key].filter(Boolean).join(": "), value: (row) => row[key],
      show: (row) => el("span", { title: row[key] === null ? null : exact(row[key]) }, told(key, inUnits(key, row[key]))),
    });
  }
  const records = rows.filter(shownRow);
  grid($("#all-table"), "All results", columns, records, every.state, every.limit);
  $("#all-more").replaceChildren(...(records.length > every.limit
    ? [button(`Show all ${records.length} results`, { onclick: () => { every.limit = Infinity; drawEvery(); } })] : []));
}

function startEvery() {
  const groups = GROUPS.filter(([prefix]) => data.rows.columns.some((name) => name.startsWith(prefix + ".")));
  bind(every, "group", "table", groups[0]?.[0] ?? "measures", (group) => groups.some(([prefix]) => prefix === group));
  bindSort(every.state, "tablesort", { key: "", down: false });
  $("#all-controls").append(select("Show", groups, every.group, (group) => { every.group = group; drawEvery(); }, "all-group"), csvButton("All results", "#all-table"));
  $("#all-caption").textContent = "One row per model and dataset, as stored; metrics × 100. A value's full precision shows when it is pointed at.";
  listeners.push((what) => what === "filter" && drawEvery());
  drawEvery();
}
