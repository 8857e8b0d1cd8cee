// The leaderboard: ranks, means with their intervals, scores by dataset, and what is known of the models.

const board = { state: {} };
const averages = [...new Map(data.averages.map((one) => [one.average, one])).values()];
const averageOf = new Map(data.averages.map((one) => [one.model + "\n" + one.average, one]));
const measureKey = "measures." + data.measure;
const told = (name, value) => (/^measures\.(nDCG|R|AP|RR|P|Success|Judged|Bpref|RBP)[@(]?/.test(name) ? percent(value) : plain(value));

// What the report's own table of scores adds: intervals, ranks, marks, and why a figure is not there.
const stated = new Map((data.scores?.rows ?? []).flatMap((row) => row.map((one, place) => [row[0].text + "\n" + data.scores.columns[place].name, one])));
const figure = (model, column) => stated.get(model + "\n" + column);
// A mean over seeds has no row of its own, but a figure of the leaderboard.
const scoreOf = (model, dataset) => score(cell(model, dataset)) ?? (typeof figure(model, dataset)?.value === "number" ? figure(model, dataset).value : null);
const SIGNS = { "in-domain": "*", better: "†", worse: "‡", disputed: "§", imported: "°", unanswered: "‖", versions: "¶" };
const SAID = {
  "in-domain": "in-domain", better: "better than the baseline", worse: "worse than the baseline", disputed: "disputed: two results disagree",
  imported: "imported", unanswered: "of a run without many of the queries", versions: "of different versions of the dataset",
};
const LEGEND = {
  "in-domain": "* in-domain: trained on judgements of that dataset (of an average: of one in it)",
  better: "† significantly better than the baseline", worse: "‡ significantly worse than it", disputed: "§ disputed: two results of the cell disagree",
  imported: "° imported: measured elsewhere, by other code", unanswered: "‖ the run has no document for many of the judged queries, which count as 0",
  versions: "¶ the models saw different versions of the dataset: the column compares nothing",
};

function withMarks(text, marks) {
  return [text, ...marks.map((mark) => el("sup", { title: SAID[mark] ?? mark, class: mark }, SIGNS[mark] ?? "?", el("span", { class: "unseen" }, " " + (SAID[mark] ?? mark))))];
}

// ---- ranks: places in the default order ---------------------------------------------------------------------------------

const leading = averages[0] ?? null;
const leadOf = (model) => (leading ? averageOf.get(model + "\n" + leading.average).value : data.datasets.length === 1 ? scoreOf(model, data.datasets[0]) : null);
const leads = data.models.map(leadOf).filter((value) => value !== null);
const rankOf = (model) => { const own = leadOf(model); return own === null ? null : 1 + leads.filter((value) => value > own).length; };
const placeOf = new Map(data.models.map((model, place) => [model, place]));
const MANY = 6;
const DEFAULT_SORT = { key: "place", down: false };

function rankColumn() {
  const by = leading?.average ?? data.datasets[0];
  return {
    key: "place", title: "Rank", words: false, up: true, style: "rank", value: (model) => placeOf.get(model), plain: rankOf,
    hint: leads.length ? `Place by ${by}, ${metric(data.measure)}. A model without all of its datasets has none.` : "The order of the report",
    show: (model) => { const rank = rankOf(model); return rank === null ? el("span", { class: "status", title: "Not every dataset was measured" }, MISSING) : String(rank); },
  };
}

function modelColumn() {
  return {
    key: "model", title: "Model", words: true, head: true, value: (model) => model,
    show: (model) => {
      const place = coloured.indexOf(model);
      const pressed = el("button", {
        type: "button", class: "colour", "aria-pressed": String(place >= 0), "data-column": "colour " + model,
        "aria-label": "Colour in the charts: " + model, title: "Colour this model in the charts",
        onclick: () => toggleColour(model),
      }, swatch(place));
      return el("span", { class: "model" }, pressed, breakable(model));
    },
  };
}

// ---- means and their intervals -------------------------------------------------------------------------------------------

// An interval in numbers over a line that shows it on the scale of its column.
function whisker(ends, value, [low, high]) {
  if (!(high > low)) return null;
  const at = (number) => (4 + 112 * (number - low) / (high - low)).toFixed(1);
  return svg("svg", { viewBox: "0 0 120 8", class: "whisker", "aria-hidden": "true" }, svg("path", { d: `M${at(ends[0])} 4H${at(ends[1])}` }),
    ...(typeof value === "number" ? [svg("circle", { cx: at(value), cy: 4, r: 3 })] : []));
}

function statedColumns() {
  const others = new Set(["model", ...data.datasets, ...averages.map((one) => one.average)]);
  return (data.scores?.columns ?? []).filter((column) => !others.has(column.name)).map((column) => {
    const valueOf = (model) => figure(model, column.name)?.value ?? null;
    const spans = data.models.map(valueOf).filter(Array.isArray), scores = /interval/.test(column.name) && spans.length > 0;
    const scale = scores ? [Math.min(...spans.map(([low]) => low)), Math.max(...spans.map(([, high]) => high))] : [0, 0];
    const middle = averages.find((one) => column.name.endsWith(" of " + one.average)) ?? (column.name.startsWith("its") ? null : leading);
    return {
      key: "stated " + column.name, title: column.name === "rank" ? "plausible ranks" : column.name, name: column.name, up: column.name === "rank",
      hint: column.name === "rank" ? "The ranks that these queries leave possible, at 95% confidence" : `Sort by ${column.name}`,
      value: (model) => { const value = valueOf(model); return Array.isArray(value) ? value[0] : value; },
      plain: (model) => figure(model, column.name)?.text ?? null,
      mark: (model) => (figure(model, column.name)?.best ? "best" : Array.isArray(valueOf(model)) ? "interval" : ""),
      show: (model) => {
        const one = figure(model, column.name);
        if (!one || one.absence) return el("span", { class: "status" }, one && one.text !== "-" ? one.text : MISSING);
        const center = middle ? averageOf.get(model + "\n" + middle.average)?.value : null;
        return el("span", { title: [one.value].flat().map(exact).join(" to ") }, ...withMarks(one.text, one.marks ?? []),
          ...(scores && Array.isArray(one.value) ? [whisker(one.value, center, scale)] : []).filter(Boolean));
      },
    };
  });
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

function averageColumn(average) {
  const of = (model) => averageOf.get(model + "\n" + average.average);
  const values = data.models.map((model) => of(model).value);
  const highest = best(values, percent), tint = scale(values);
  const mixed = average.datasets.some((dataset) => data.mixed.includes(dataset));
  return {
    key: "average " + average.average, style: average.average.length < 12 ? "set" : "", title: average.average, name: average.average,
    hint: "The unweighted mean of " + average.datasets.join(", "),
    value: (model) => of(model).value,
    mark: (model) => "average" + (!mixed && of(model).value !== null && percent(of(model).value) === highest ? " best" : ""),
    tint: (model) => tint(of(model).value),
    show: (model) => {
      const one = of(model);
      if (one.value === null) return el("span", { class: "status" }, `${one.measured} of ${one.datasets.length}`);
      return el("span", { title: exact(one.value) }, ...withMarks(percent(one.value), figure(model, average.average)?.marks ?? (one.in_domain ? ["in-domain"] : [])));
    },
  };
}

// ---- datasets ---------------------------------------------------------------------------------------------------------------

function datasetColumn(dataset, models) {
  const name = board.measure, tell = (value) => told(name, value), headline = name === measureKey;
  const stateOf = (model) => (headline ? figure(model, dataset) : undefined);
  const valueOf = (model) => score(cell(model, dataset), name) ?? (typeof stateOf(model)?.value === "number" ? stateOf(model).value : null);
  const values = models.map(valueOf);
  const mixed = data.mixed.includes(dataset), tint = scale(values), highest = mixed ? null : best(values, tell);
  return {
    key: "dataset " + dataset, style: dataset.length < 16 ? "set" : "", title: dataset + (mixed ? " ⚠" : ""), name: dataset,
    hint: mixed ? "The models saw different versions of it, so this column compares nothing." : "Sort by " + dataset,
    value: valueOf,
    mark: (model) => (highest !== null && tell(valueOf(model)) === highest ? "best" : ""),
    tint: (model) => tint(valueOf(model)),
    show: (model) => {
      const row = cell(model, dataset), value = valueOf(model), one = stateOf(model);
      if (!row && value !== null) return el("span", { title: exact(value) }, ...withMarks(tell(value), one.marks ?? []));
      if (!row) return el("span", { class: "status" }, one?.text ?? "missing");
      const text = value !== null ? tell(value) : row.status === "ok" ? "none" : row.status;
      const marks = value === null ? [] : one?.marks ?? (row.in_domain ? ["in-domain"] : []);
      return el("button", {
        type: "button", class: value === null ? "status" : "figure", title: value === null ? row.reason : exact(value),
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
  const asides = front.filter((column) => /^stated ((its )?design effect|isotropy)/.test(column.key));
  return { front: front.filter((column) => !asides.includes(column)), rest, asides };
}

// ---- what is known of a model -----------------------------------------------------------------------------------------------

const millions = (value) => (value >= 1e9 ? fixed(value / 1e9, 2) + "B" : fixed(value / 1e6, value < 1e8 ? 1 : 0) + "M");

function factColumns() {
  const column = (name, title, tell, more = {}) => ({
    key: "fact " + name, title, style: "fact", value: (model) => facts(model)[name] ?? null, hint: "Sort by " + title.toLowerCase(), ...more,
    show: (model) => { const value = facts(model)[name]; return value === undefined || value === null ? el("span", { class: "status" }, MISSING) : tell(value, model); },
  });
  const trained = {
    ...column("trained_on", "Trained on", (names, model) => {
      const text = names.length > 2 ? count(names.length, "dataset") : names.join(", ");
      return el("button", { type: "button", class: "figure", onclick: () => showModel(model), title: names.join(", "), "aria-label": `${text}, what ${model} was trained on` }, text);
    }),
    words: true, value: (model) => facts(model).trained_on?.length ?? null, plain: (model) => facts(model).trained_on?.join(" ") ?? null,
  };
  return [
    column("kind", "Type", (kind) => KINDS[kind] ?? kind, { words: true }), column("parameters", "Parameters", millions), column("dim", "Dimensions", plain),
    column("max_tokens", "Max. tokens", plain), column("licence", "Licence", String, { words: true }), trained,
  ].filter((one) => data.models.some((model) => one.value(model) !== null));
}

function drawLeaderboard() {
  const models = shownModels(), isMeasure = board.measure === measureKey;
  const folded = filter.datasets ? [] : Object.values(data.groups).flat();
  const datasets = shownDatasets().filter((dataset) => !isMeasure || !folded.includes(dataset));
  const { front, rest, asides } = isMeasure ? headlineColumns(datasets) : { front: [], rest: datasets.map((dataset) => datasetColumn(dataset, data.models)), asides: [] };
  const known = board.facts ? factColumns() : [];
  // where the datasets fill the screen, what is known of a model comes before them
  const after = rest.length > MANY ? [...known, ...rest, ...asides] : [...rest, ...asides, ...known];
  grid($("#leaderboard-table"), "Leaderboard", [rankColumn(), modelColumn(), ...front, ...after], models, board.state);
  const limited = shownDatasets(data.partial_datasets);
  $("#partial").hidden = !limited.length;
  if (limited.length) {
    const some = models.filter((model) => data.partial_datasets.some((dataset) => cell(model, dataset)));
    grid($("#partial-table"), "Leaderboard of runs on some queries only, or with another setting",
      [modelColumn(), ...limited.map((dataset) => datasetColumn(dataset, data.models))], some, (board.partial ??= {}));
  }
  const scaled = told(board.measure, 1) === "100.00", by = leads.length ? ` Ranked by ${leading?.average ?? data.datasets[0]}` : "";
  $("#leaderboard-caption").textContent = `${called(board.measure)}${scaled ? " × 100" : ""}, the best of a column in bold.` +
    (by ? by + (isMeasure ? "" : ` of ${metric(data.measure)}`) + (leads.length < data.models.length ? "; models that lack one of its datasets come last." : ".") : "") +
    " Press a heading to sort, a score to see how it was made, a model's mark to colour it in the charts." +
    (isMeasure && folded.length ? ` Only their mean stands for the datasets of ${Object.keys(data.groups).join(", ")}: to see each, type its name into the filter.` : "");
}

function startLeaderboard() {
  const whole = data.rows.columns.filter((name) => /^(measures|geometry\.documents)\./.test(name));
  bind(board, "measure", "show", measureKey, (name) => whole.includes(name));
  bindSort(board.state, "sort", DEFAULT_SORT);
  bindSwitch(board, "facts", "facts", innerWidth > 640);
  const listed = [measureKey, ...whole.filter((name) => name !== measureKey)];
  $("#leaderboard-controls").append(
    select("Show", menu(listed), board.measure, (name) => { board.measure = name; drawLeaderboard(); }, "leaderboard-measure"),
    ...(factColumns().length ? [checkbox("Model facts", board.facts, (on) => { board.facts = on; drawLeaderboard(); }, "leaderboard-facts")] : []),
    csvButton("Leaderboard", "#leaderboard-table"));
  const marks = new Set([...stated.values()].flatMap((one) => one.marks ?? []));
  if (rows.some((row) => row.in_domain)) marks.add("in-domain");
  $("#leaderboard-legend").append(Object.keys(LEGEND).filter((mark) => marks.has(mark)).map((mark) => LEGEND[mark]).join(" · "));
  listeners.push((what) => what !== "theme" && drawLeaderboard());
  drawLeaderboard();
}
