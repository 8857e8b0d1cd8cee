// Two models query by query.

const duel = { state: {} };
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
      select("Dataset", datasets, duel.dataset, redo("dataset"), "queries-dataset"), select("x axis", models, duel.a, redo("a"), "queries-a"),
      select("y axis", models, duel.b, redo("b"), "queries-b"), ...$("#queries-controls").querySelectorAll(".downloads"));
    if (focus?.startsWith("queries-")) document.getElementById(focus)?.focus();
  };
  bind(duel, "dataset", "qdata", [...datasets].sort((x, y) => known(y).length - known(x).length)[0], (dataset) => datasets.includes(dataset));
  const models = known(duel.dataset), valid = (model) => models.includes(model);
  bind(duel, "a", "qx", models.find((model) => /^bm25/.test(model)) ?? models[0], valid);
  bind(duel, "b", "qy", models.find((model) => model !== duel.a), valid);
  bindSort(duel.state, "qsort", { key: "size", down: true });
  rebuild();
  chart("queries", "Query by query", duelPlot);
  $("#moved-controls").append(csvButton("Queries that differ most", "#moved-table"));
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
    `${(points.length - wins - losses).toLocaleString("en")} of ${points.length.toLocaleString("en")}; their ${metric(data.measure)} × 100: ${percent(b)} and ${percent(a)}. ` +
    (shown < total ? `This page has ${shown.toLocaleString("en")} of the ${total.toLocaleString("en")} queries, evenly spaced. ` : "") +
    (shown > data.limits.texts ? `${shown < total ? "It" : "This page"} has the texts of the ${data.limits.texts} on which all models differ most, up to ${data.limits.characters} characters. ` : "") + `A larger dot stands for more queries.`;
  const moved = points.filter((one) => one.a !== one.b).sort((x, y) => Math.abs(y.b - y.a) - Math.abs(x.b - x.a)).slice(0, MOVED);
  const number = (key, title, value) => ({ key, title, value: (one) => value(one) / 100, show: (one) => tenThousandths(value(one)) });
  grid($("#moved-table"), "Queries that differ most", [
    { key: "query", title: "Query", words: true, head: true, value: (one) => one.text ?? one.id,
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
      description: `Scatter plot: ${data.measure} of every query of ${duel.dataset}, ${duel.a} on the x axis and ${duel.b} on the y axis; ${points.length} queries. The table beside it lists those that differ most.`,
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
