// Two models query by query, the notes, and the start of everything.

const duel = { dataset: "", a: "", b: "", state: { key: "size", down: true } };
const MOVED = 40;

async function startQueries() {
  const datasets = allDatasets.filter((dataset) => (data.query_models[dataset] ?? []).length > 1);
  $("#queries").hidden = !datasets.length;
  if (!datasets.length) return;
  const known = (dataset) => data.models.filter((model) => data.query_models[dataset].includes(model));
  const rebuild = () => {
    const models = known(duel.dataset);
    if (!models.includes(duel.a)) duel.a = models.find((model) => /^bm25/.test(model) && model !== duel.b) ?? models.find((model) => model !== duel.b);
    if (!models.includes(duel.b) || duel.b === duel.a) duel.b = models.find((model) => model !== duel.a);
    const redo = (key) => (value) => { duel[key] = value; rebuild(); showDuel(); };
    const focus = document.activeElement?.id;
    $("#queries-controls").replaceChildren(
      select("Of", datasets, duel.dataset, redo("dataset"), "queries-dataset"),
      select("Across", models, duel.a, redo("a"), "queries-a"), select("Up", models, duel.b, redo("b"), "queries-b"));
    if (focus?.startsWith("queries-")) document.getElementById(focus)?.focus();
  };
  duel.dataset = [...datasets].sort((x, y) => known(y).length - known(x).length)[0];
  rebuild();
  chart("queries", duelPlot);
  await showDuel();
}

async function duelPoints() {
  const found = await block("queries " + duel.dataset);
  const a = found.scores[duel.a], b = found.scores[duel.b];
  const points = found.ids.map((id, place) => ({ id, place, a: a[place], b: b[place], text: found.texts[place] }))
    .filter((one) => one.a >= 0 && one.b >= 0);
  return { points, total: found.total, shown: found.ids.length };
}

const tenThousandths = (value) => fixed(value / 100, 2);

async function showDuel() {
  const { points, total, shown } = await duelPoints();
  const wins = points.filter((one) => one.b > one.a).length, losses = points.filter((one) => one.b < one.a).length;
  const a = score(cell(duel.a, duel.dataset)), b = score(cell(duel.b, duel.dataset));
  $("#queries-caption").textContent =
    `${duel.b} is better than ${duel.a} on ${count(wins, "query", "queries")}, worse on ${losses.toLocaleString("en")} and equal on ` +
    `${(points.length - wins - losses).toLocaleString("en")} of ${points.length.toLocaleString("en")}; their ${data.measure} × 100: ${percent(b)} and ${percent(a)}. ` +
    (shown < total ? `This page has ${shown.toLocaleString("en")} of the ${total.toLocaleString("en")} queries, evenly spaced. ` : "") +
    (shown > data.limits.texts ? `${shown < total ? "It" : "This page"} has the texts of the ${data.limits.texts} on which all models differ most, up to ${data.limits.characters} characters. ` : "") + `A larger dot stands for more queries.`;
  const moved = points.filter((one) => one.a !== one.b).sort((x, y) => Math.abs(y.b - y.a) - Math.abs(x.b - x.a)).slice(0, MOVED);
  const number = (key, title, value) => ({ key, title, value: (one) => value(one) / 100, show: (one) => tenThousandths(value(one)) });
  grid($("#moved-table"), "Queries that differ most", [
    { key: "query", title: "Query", words: true, value: (one) => one.text ?? one.id,
      show: (one) => el("span", { class: "query" }, el("small", {}, one.id), " ", one.text ?? "(its text is not on this page)") },
    number("a", duel.a, (one) => one.a), number("b", duel.b, (one) => one.b),
    { key: "size", title: "Change", value: (one) => Math.abs(one.b - one.a) / 100, mark: (one) => (one.b > one.a ? "up" : "down"),
      show: (one) => (one.b > one.a ? "+" : "") + tenThousandths(one.b - one.a) },
  ], moved, duel.state);
  await draw("queries");
}

async function duelPlot() {
  const { points } = await duelPoints(), spots = new Map();
  for (const one of points) {
    const key = one.a * 20000 + one.b;
    const spot = spots.get(key) ?? { a: one.a / 100, b: one.b / 100, side: Math.sign(one.b - one.a), queries: [], number: 0 };
    spot.number += 1;
    if (one.text ? spot.queries.filter((other) => other.text).length < 4 : spot.queries.length < 2) spot.queries.push(one);
    spots.set(key, spot);
  }
  const values = [...spots.values()];
  const axis = (field, model) => ({ field, type: "quantitative", title: model, scale: { domain: [-3, 103], nice: false }, axis: { values: [0, 20, 40, 60, 80, 100], titleLimit: 300 } });
  return {
    canvas: true, empty: values.length ? "" : "The two models share no query.",
    tip: (one) => (one.queries === undefined ? null : [[count(one.number, "query", "queries")], [duel.a, fixed(one.a, 2)], [duel.b, fixed(one.b, 2)],
      ...[...one.queries].sort((x, y) => (y.text ? 1 : 0) - (x.text ? 1 : 0)).slice(0, 4).map((query) => [query.id, query.text ?? ""])]),
    spec: {
      description: `Scatter plot: ${data.measure} of every query of ${duel.dataset}, ${duel.a} across and ${duel.b} up; ${points.length} queries. The table beside it lists those that differ most.`,
      width: "container", height: 400,
      layer: [
        { data: { values: [{ x: 0, y: 0, u: 100, v: 100 }] }, mark: { type: "rule", strokeDash: [4, 4], color: colour("soft"), aria: false },
          encoding: { x: axis("x", duel.a), y: axis("y", duel.b), x2: { field: "u" }, y2: { field: "v" } } },
        { data: { values }, mark: { type: "circle", opacity: 0.7, tooltip: { content: "data" }, aria: false, stroke: colour("paper"), strokeWidth: 0.6 },
          encoding: {
            x: axis("a", duel.a), y: axis("b", duel.b),
            size: { field: "number", type: "quantitative", scale: { type: "sqrt", range: [36, 900], domain: [1, Math.max(2, ...values.map((one) => one.number))] }, legend: null },
            color: { field: "side", type: "nominal", scale: { domain: [-1, 0, 1], range: [colour("down"), colour("none"), colour("up")] }, legend: null },
          } },
      ],
    },
  };
}

// ---- notes and start --------------------------------------------------------------------------------------------------------

function startNotes() {
  const said = [...(data.notes ?? [])];
  if (!data.notes) ownNotes(said);
  $("#notes-list").append(...[...new Set(said)].map((text) => el("li", {}, text)));
  const made = rows.map((row) => row["manifest.run.started"]).filter(Boolean).sort();
  const days = [...new Set([made[0], made.at(-1)].filter(Boolean).map((when) => String(when).slice(0, 10)))].join(" to ");
  $("#lead").textContent = `${count(data.models.length, "model")} on ${count(allDatasets.length, "dataset")}, ${count(rows.length, "result")}${days ? `, measured ${days}` : ""}. ` +
    `${data.measure} by the rules of trec_eval 10.0; every figure is a stored one.`;
  $("#foot").textContent = `Made from stored results by retrieval-harness. Plots: ${data.library}, inside this file, which fetches nothing.`;
}

// Where the report itself gives no notes.
function ownNotes(said) {
  if (rows.some((row) => row["geometry.documents.isotropy"] !== undefined)) {
    said.push(`Isotropy: ${data.definitions.isotropy}; l are the eigenvalues of the vectors' covariance.`, `Its ceiling: ${data.definitions.isotropy_ceiling}.`);
  }
  for (const average of averages) said.push(`${average.average}: the unweighted mean of ${average.datasets.join(", ")}.`);
  for (const ties of data.ties) said.push(`Order of documents: ${ties}.`);
  for (const dataset of allDatasets) {
    if (data.mixed.includes(dataset)) said.push(`${dataset}: the models saw different versions of it, so its column compares nothing.`);
    if (rows.some((row) => row.dataset === dataset && row["manifest.dataset.exclude_self"])) said.push(`${dataset}: a query's own document is left out of its ranking.`);
    for (const note of data.dataset_notes[dataset] ?? []) said.push(`${dataset}: ${note}`);
  }
  for (const row of rows.filter((one) => one.status !== "ok")) said.push(`${row.status}: ${row.model} on ${row.dataset}: ${row.reason ?? "no reason was recorded"}`);
  for (const one of data.skipped) said.push(`skipped: ${one.path}: ${one.reason}`);
}

function startNav() {
  for (const section of document.querySelectorAll("main > section:not([hidden])")) {
    $("#nav").append(el("a", { href: "#" + section.id }, section.querySelector("h2").textContent));
  }
}

async function start() {
  listenToTheme();
  listenToFilter();
  startNotes();
  startLeaderboard();
  startEvery();
  await new Promise((ready) => requestAnimationFrame(() => setTimeout(ready)));
  document.documentElement.dataset.tables = "ready";
  $("#heat-controls").append(select("Colour by", [["score", data.measure], ["gap", "distance to the best"]], heat.by, (by) => { heat.by = by; draw("heat"); }, "heat-by"));
  chart("heat", heatMap);
  startScatters();
  let waiting = 0;
  listeners.push((what) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => [...charts.keys()].forEach((name) => (what === "filter" && name === "queries") || draw(name)), 120);
  });
  $("#tip").addEventListener("pointerenter", () => showTip(null, null));
  addEventListener("scroll", () => showTip(null, null), { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && showTip(null, null));
  await draw("heat");
  if (charts.has("isotropy")) await draw("isotropy");
  await startSpectra();
  await startQueries();
  await draw("cost");
  await startCurves();
  startNav();
  document.documentElement.dataset.charts = "ready";
}

start();
