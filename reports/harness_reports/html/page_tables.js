// Tables: one component that sorts, the leaderboard, every result, and what is known of one cell.

// columns: {key, title, value(row), show(row) -> text or element, words, note, hint}; rows keep their order until a
// header is pressed. Rows without a value come last, whichever way a column is sorted.
function grid(place, label, columns, records, state, limit = Infinity) {
  const focus = place.contains(document.activeElement) ? document.activeElement.dataset.column : undefined;
  const by = columns.find((column) => column.key === state.key);
  const sorted = [...records];
  if (by) {
    const side = state.down ? -1 : 1;
    sorted.sort((a, b) => {
      const x = by.value(a) ?? null, y = by.value(b) ?? null;
      if (x === null || y === null) return (x === null) - (y === null);
      return side * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
    });
  }
  const press = (column) => () => {
    const again = state.key === column.key;
    state.down = again ? !state.down : !column.words;
    state.key = column.key;
    grid(place, label, columns, records, state, limit);
  };
  const head = columns.map((column) => {
    const direction = state.key !== column.key ? "none" : state.down ? "descending" : "ascending";
    const button = el("button", { type: "button", "data-column": column.key, title: column.hint, onclick: press(column) },
      el("span", {}, column.title), el("span", { class: "arrow", "aria-hidden": "true" }));
    return el("th", { scope: "col", "aria-sort": direction, class: column.words ? "words" : null }, button);
  });
  const body = sorted.slice(0, limit).map((record) => el("tr", {}, ...columns.map((column, at) => {
    const value = column.value(record) ?? null, shown = column.show(record);
    const attributes = {
      class: [column.words ? "words" : "", column.mark ? column.mark(record) : ""].join(" ").trim() || null,
      "data-column": column.key,
      "data-value": typeof value === "number" ? String(value) : null,
    };
    const made = at ? el("td", attributes, shown) : el("th", { ...attributes, scope: "row" }, shown);
    const tint = column.tint ? column.tint(record) : null;
    if (tint !== null && tint !== undefined) made.style.setProperty("--t", tint.toFixed(3));
    return made;
  })));
  if (!body.length) body.push(el("tr", {}, el("td", { colspan: columns.length, class: "words" }, "Nothing has such a name.")));
  place.replaceChildren(el("table", {}, el("caption", { class: "unseen" }, label),
    el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)));
  if (focus) place.querySelector(`thead [data-column="${CSS.escape(focus)}"]`)?.focus();
}

// ---- leaderboard ----------------------------------------------------------------------------------------------------

const SHARES = /^(measures\.(?!.*(Num|Set))|geometry\.documents\.(top1_share))/;
const board = { measure: "measures." + data.measure, state: { key: null, down: true } };
const told = (name, value) => (/^measures\.(nDCG|R|AP|RR|P|Success|Judged|Bpref|RBP)[@(]?/.test(name) ? percent(value) : plain(value));
const short = (name) => name.replace(/^measures\./, "").replace(/^geometry\.documents\./, "").replace(/_/g, " ");
const averages = [...new Map(data.averages.map((one) => [one.average, one])).values()];
const averageOf = new Map(data.averages.map((one) => [one.model + "\n" + one.average, one]));

// What the report's own table of scores adds: intervals, ranks, marks, and why a figure is not there.
const stated = new Map((data.scores?.rows ?? []).flatMap((row) => row.map((one, place) => [row[0].text + "\n" + data.scores.columns[place].name, one])));
const figure = (model, column) => stated.get(model + "\n" + column);
const SIGNS = { "in-domain": "*", better: "†", worse: "‡", disputed: "§", imported: "°", unanswered: "‖", versions: "¶" };
const SAID = {
  "in-domain": "in-domain", better: "better than the baseline", worse: "worse than the baseline", disputed: "disputed: two results disagree",
  imported: "imported", unanswered: "of a run without many of the queries", versions: "of different versions of the dataset",
};

function withMarks(text, marks) {
  return [text, ...marks.map((mark) => el("sup", { title: SAID[mark] ?? mark, class: mark }, SIGNS[mark] ?? "?", el("span", { class: "unseen" }, " " + (SAID[mark] ?? mark))))];
}

function statedColumns() {
  const others = new Set(["model", ...data.datasets, ...averages.map((one) => one.average)]);
  return (data.scores?.columns ?? []).filter((column) => !others.has(column.name)).map((column) => ({
    key: "stated " + column.name, title: column.name, words: false, name: column.name,
    value: (model) => { const value = figure(model, column.name)?.value ?? null; return Array.isArray(value) ? value[0] : value; },
    mark: (model) => (figure(model, column.name)?.best ? "best" : Array.isArray(figure(model, column.name)?.value) ? "interval" : ""),
    show: (model) => {
      const one = figure(model, column.name);
      if (!one || one.absence) return el("span", { class: "status" }, one ? one.text : MISSING);
      return el("span", { title: [one.value].flat().join(" to ") }, ...withMarks(one.text, one.marks ?? []));
    },
  }));
}

function best(values, tell) {
  const known = values.filter((value) => typeof value === "number");
  return known.length > 1 ? tell(Math.max(...known)) : null;
}

function scale(values) {
  const known = values.filter((value) => typeof value === "number");
  const low = Math.min(...known), high = Math.max(...known);
  return (value) => (typeof value === "number" && high > low ? (value - low) / (high - low) : null);
}

function modelColumn() {
  return {
    key: "model", title: "Model", words: true, value: (model) => model,
    show: (model) => {
      const place = coloured.indexOf(model);
      const button = el("button", {
        type: "button", class: "colour", "aria-pressed": String(place >= 0), "data-column": "colour " + model,
        "aria-label": "Colour in the charts: " + model, title: "Colour this model in the charts",
        onclick: () => toggleColour(model),
      }, swatch(place));
      return el("span", { class: "model" }, button, el("span", { class: "name", title: model }, model));
    },
  };
}

function averageColumn(average) {
  const of = (model) => averageOf.get(model + "\n" + average.average);
  const values = data.models.map((model) => of(model).value);
  const highest = best(values, percent), tint = scale(values);
  const mixed = average.datasets.some((dataset) => data.mixed.includes(dataset));
  return {
    key: "average " + average.average, title: average.average, name: average.average,
    hint: "The unweighted mean of " + average.datasets.join(", "),
    value: (model) => of(model).value,
    mark: (model) => "average" + (!mixed && of(model).value !== null && percent(of(model).value) === highest ? " best" : ""),
    tint: (model) => tint(of(model).value),
    show: (model) => {
      const one = of(model);
      if (one.value === null) return el("span", { class: "status" }, `${one.measured} of ${one.datasets.length}`);
      return el("span", {}, ...withMarks(percent(one.value), figure(model, average.average)?.marks ?? (one.in_domain ? ["in-domain"] : [])));
    },
  };
}

function datasetColumn(dataset, models) {
  const name = board.measure, tell = (value) => told(name, value), headline = name === "measures." + data.measure;
  const stateOf = (model) => (headline ? figure(model, dataset) : undefined);
  const valueOf = (model) => score(cell(model, dataset), name) ?? (typeof stateOf(model)?.value === "number" ? stateOf(model).value : null);
  const values = models.map(valueOf);
  const mixed = data.mixed.includes(dataset), tint = scale(values), highest = mixed ? null : best(values, tell);
  return {
    key: "dataset " + dataset, title: dataset + (mixed ? " ⚠" : ""),
    hint: mixed ? "The models saw different versions of it, so this column compares nothing." : "Sort by " + dataset,
    value: valueOf,
    mark: (model) => (highest !== null && tell(valueOf(model)) === highest ? "best" : ""),
    tint: (model) => tint(valueOf(model)),
    show: (model) => {
      const row = cell(model, dataset), value = valueOf(model), one = stateOf(model);
      if (!row && value !== null) return el("span", { title: String(value) }, ...withMarks(tell(value), one.marks ?? []));
      if (!row) return el("span", { class: "status" }, one?.text ?? "missing");
      const text = value !== null ? tell(value) : row.status === "ok" ? "none" : row.status;
      const marks = value === null ? [] : one?.marks ?? (row.in_domain ? ["in-domain"] : []);
      return el("button", {
        type: "button", class: value === null ? "status" : "figure", title: value === null ? row.reason : String(value),
        "aria-label": `${[text, ...marks.map((mark) => SAID[mark] ?? mark)].join(", ")}, ${model} on ${dataset}: how it was made`, onclick: () => showCell(row),
      }, ...withMarks(text, marks));
    },
  };
}

// Averages first, each followed by what the report states of it; the mean of a group stands where its datasets would.
function headlineColumns(datasets) {
  const order = (data.scores?.columns ?? []).map((column) => column.name);
  const groups = averages.filter((one) => data.groups[one.average.split(" (")[0]]);
  const front = [...averages.filter((one) => !groups.includes(one)).map(averageColumn), ...statedColumns()];
  const at = (column) => order.indexOf(column.name);
  if (order.length) front.sort((a, b) => at(a) - at(b));
  const members = new Map(groups.flatMap((one) => one.datasets.map((dataset) => [dataset, one])));
  const rest = [];
  for (const dataset of shownDatasets()) {
    const group = members.get(dataset);
    const mean = group && averageColumn(group);
    if (mean && !rest.some((column) => column.key === mean.key)) rest.push(mean);
    if (datasets.includes(dataset)) rest.push(datasetColumn(dataset, data.models));
  }
  return [...front, ...rest];
}

function drawLeaderboard() {
  const models = shownModels(), isMeasure = board.measure === "measures." + data.measure;
  const folded = filter.datasets ? [] : Object.values(data.groups).flat();
  const datasets = shownDatasets().filter((dataset) => !isMeasure || !folded.includes(dataset));
  grid($("#leaderboard-table"), "Leaderboard", [modelColumn(),
    ...(isMeasure ? headlineColumns(datasets) : datasets.map((dataset) => datasetColumn(dataset, data.models)))], models, board.state);
  const limited = shownDatasets(data.partial_datasets);
  $("#partial").hidden = !limited.length;
  if (limited.length) {
    const some = models.filter((model) => data.partial_datasets.some((dataset) => cell(model, dataset)));
    grid($("#partial-table"), "Leaderboard of runs on some queries only, or with another setting",
      [modelColumn(), ...limited.map((dataset) => datasetColumn(dataset, data.models))], some, (board.partial ??= {}));
  }
  const scaled = told(board.measure, 1) === "100.00";
  $("#leaderboard-caption").textContent = `${short(board.measure)}${scaled ? " × 100" : ""}, the best of a column in bold. ` +
    "Press a heading to sort, a figure to see how it was made, a model's mark to colour it in the charts." +
    (isMeasure && folded.length ? ` Only their mean stands for the datasets of ${Object.keys(data.groups).join(", ")}: to see each, type its name into the filter.` : "");
}

function startLeaderboard() {
  const whole = data.rows.columns.filter((name) => /^(measures|geometry\.documents)\./.test(name));
  const listed = [board.measure, ...whole.filter((name) => name !== board.measure)];
  $("#leaderboard-controls").append(select("Show", listed.map((name) => [name, short(name)]), board.measure, (name) => {
    board.measure = name;
    drawLeaderboard();
  }, "leaderboard-measure"));
  const marks = new Set([...stated.values()].flatMap((one) => one.marks ?? []));
  if (rows.some((row) => row.in_domain)) marks.add("in-domain");
  const legend = {
    "in-domain": "* in-domain: trained on judgements of that dataset (of an average: of one in it)",
    better: "† better than the baseline beyond chance", worse: "‡ worse than it", disputed: "§ disputed: two results of the cell disagree",
    imported: "° imported: measured elsewhere, by other code", unanswered: "‖ the run has no document for many of the judged queries, which count as 0",
    versions: "¶ the models saw different versions of the dataset: the column compares nothing",
  };
  $("#leaderboard-legend").append(Object.keys(legend).filter((mark) => marks.has(mark)).map((mark) => legend[mark]).join(" · "));
  listeners.push((what) => what !== "theme" && drawLeaderboard());
  drawLeaderboard();
}

// ---- one cell ---------------------------------------------------------------------------------------------------------

function showCell(row) {
  $("#cell-title").textContent = `${row.model} on ${row.dataset}`;
  const groups = new Map();
  for (const name of data.rows.columns) {
    const [group, ...rest] = name.split(".");
    if (row[name] === null || row[name] === undefined || ["model", "dataset", "command"].includes(name)) continue;
    const title = rest.length ? group : "result";
    groups.set(title, [...(groups.get(title) ?? []), [rest.join(".") || name, row[name]]]);
  }
  const lists = [...groups].map(([title, pairs]) => el("section", {}, el("h3", {}, title),
    el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]))));
  const command = row.command ? el("div", {}, el("h3", {}, "command"), el("pre", { tabindex: "0" }, row.command)) : null;
  $("#cell-content").replaceChildren(...[command, ...lists].filter(Boolean));
  $("#cell").showModal();
}

// ---- all results ------------------------------------------------------------------------------------------------------

const STEP = 60;
const every = { group: "measures", limit: STEP, state: { key: null } };
const GROUPS = [
  ["measures", "Measures"], ["geometry.documents", "Geometry of documents"], ["geometry.queries", "Geometry of queries"],
  ["geometry.hubness", "Hubness"], ["seconds", "Seconds"], ["counts", "Counts"], ["index", "Approximate index"], ["manifest", "Manifest"],
];

function drawEvery() {
  const columns = ["model", "dataset", "status"].map((name) => ({
    key: name, title: name[0].toUpperCase() + name.slice(1), words: true, value: (row) => row[name],
    show: (row) => name !== "dataset" ? String(row[name])
      : el("button", { type: "button", class: "figure", onclick: () => showCell(row), "aria-label": `${row.dataset}, ${row.model}: how it was made` }, row.dataset),
  }));
  for (const name of data.rows.columns.filter((name) => name.startsWith(every.group + "."))) {
    if (every.group === "seconds" && name.includes("/")) continue;
    const words = rows.some((row) => typeof row[name] === "string");
    columns.push({
      key: name, title: name.slice(every.group.length + 1).replace(/_/g, " "), words,
      hint: data.definitions[name.split(".").pop()], value: (row) => row[name],
      show: (row) => el("span", { title: row[name] === null ? null : String(row[name]) }, told(name, row[name])),
    });
  }
  const records = rows.filter(shownRow);
  grid($("#all-table"), "All results", columns, records, every.state, every.limit);
  $("#all-more").replaceChildren(...(records.length > every.limit
    ? [el("button", { type: "button", onclick: () => { every.limit = Infinity; drawEvery(); } }, `Show all ${records.length} results`)] : []));
}

function startEvery() {
  const groups = GROUPS.filter(([prefix]) => data.rows.columns.some((name) => name.startsWith(prefix + ".")));
  $("#all-controls").append(select("Show", groups, every.group, (group) => { every.group = group; drawEvery(); }, "all-group"));
  $("#all-caption").textContent = "One row per model and dataset, as stored; measures × 100. A figure's full precision shows when it is pointed at.";
  listeners.push((what) => what === "filter" && drawEvery());
  drawEvery();
}
