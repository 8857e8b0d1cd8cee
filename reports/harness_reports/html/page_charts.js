// Plots: Vega-Lite specifications, drawn once the tables are there, and again when filter, colours or theme change.

const charts = new Map();

// make() gives {spec, tip(datum) -> [[label, value]...], empty}; what it says in words goes into the label of the plot.
function chart(name, make) {
  charts.set(name, { make, view: null, turn: 0 });
}

async function draw(name) {
  const one = charts.get(name), place = $(`#${name}-chart`), turn = ++one.turn;
  const made = await one.make();
  if (turn !== one.turn) return;
  one.view?.finalize();
  one.view = null;
  drawKey(place.parentElement.querySelector(".key"), made.models);
  if (made.empty) {
    for (const name of ["role", "aria-label", "aria-roledescription"]) place.removeAttribute(name);
    place.replaceChildren(el("p", { class: "empty" }, made.empty));
    return;
  }
  const tooltip = (handler, event, item) => showTip(event, item && item.datum && made.tip ? made.tip(item.datum) : null);
  const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: null, padding: { left: 4, top: 6, bottom: 4, right: 16 }, ...made.spec };
  const drawn = await vegaEmbed(place, spec, {
    ast: true, actions: false, defaultStyle: false, renderer: made.canvas ? "canvas" : "svg", config: look(), tooltip, hover: false,
  });
  if (turn !== one.turn) drawn.finalize();
  else one.view = drawn;
}

function look() {
  const ink = colour("ink"), soft = colour("soft"), line = colour("line");
  const font = getComputedStyle(document.body).fontFamily;
  return {
    font, view: { stroke: null },
    axis: {
      labelColor: soft, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12,
      titleFontSize: 12.5, titleFontWeight: 500, titlePadding: 10, labelLimit: 170, gridOpacity: 0.8, labelPadding: 5,
    },
    text: { color: ink, font },
  };
}

function showTip(event, pairs) {
  const tip = $("#tip");
  tip.hidden = !pairs;
  if (!pairs) return;
  tip.replaceChildren(...pairs.map(([label, value]) => (value === undefined
    ? el("p", {}, label) : el("p", {}, el("b", {}, label), " ", el("span", {}, value)))));
  const at = event.touches?.[0] ?? event, width = tip.offsetWidth, height = tip.offsetHeight;
  tip.style.left = Math.max(8, Math.min(at.clientX + 14, innerWidth - width - 8)) + "px";
  tip.style.top = (at.clientY + height + 24 > innerHeight ? Math.max(8, at.clientY - height - 12) : at.clientY + 16) + "px";
}

// Few grid lines on a logarithmic axis: 1, 3, 10, ...; only powers of ten where there are many.
function logAxis(numbers) {
  const low = Math.min(...numbers), high = Math.max(...numbers), many = high / low > 1e4;
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    values.push(...(many ? [1] : high / low < 30 ? [1, 2, 5] : [1, 3]).map((step) => Number(`${step}e${power}`)));
  }
  return { values, format: "~g" };
}

// Colour and shape of models: those chosen have their own, and lie above the grey rest.
function hues() {
  const keys = ["none", ...SHAPES.map((_, place) => "c" + place)];
  return {
    color: { field: "hue", type: "nominal", scale: { domain: keys, range: keys.map(colour) }, legend: null },
    shape: { field: "hue", type: "nominal", scale: { domain: keys, range: ["circle", ...SHAPES] }, legend: null },
    order: { field: "front", type: "quantitative" },
  };
}

function drawKey(key, models) {
  if (!key || !models) return;
  const shown = coloured.filter((model) => models.has(model));
  key.replaceChildren(...shown.map((model) => el("span", {}, swatch(coloured.indexOf(model)), el("span", { class: "name", title: model }, model))),
    ...(models.size > shown.length ? [el("span", {}, swatch(-1), shown.length ? "other models" : "models without a colour")] : []));
}

// ---- heat map -----------------------------------------------------------------------------------------------------------

// Viridis: even steps of lightness, which survive colour blindness and grey print.
const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]
  .map((code) => [0, 2, 4].map((at) => parseInt(code.slice(at, at + 2), 16)));

function ramp(share) {
  const at = share * (VIRIDIS.length - 1), below = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[below].map((from, part) => Math.round(from + (at - below) * (VIRIDIS[below + 1][part] - from)));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((part) => (part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const heat = { by: "score" };
function heatMap() {
  // a mean over seeds has no row of its own, but a figure of the leaderboard
  const scoreOf = (model, dataset) => score(cell(model, dataset)) ?? figure(model, dataset)?.value ?? null;
  const models = shownModels().filter((model) => data.datasets.some((dataset) => scoreOf(model, dataset) !== null));
  const datasets = shownDatasets().filter((dataset) => models.some((model) => scoreOf(model, dataset) !== null));
  const values = [];
  for (const dataset of datasets) {
    const top = Math.max(...models.map((model) => scoreOf(model, dataset) ?? -1));
    for (const model of models) {
      const value = scoreOf(model, dataset);
      if (value !== null) values.push({ model, dataset, value, heat: heat.by === "score" ? 100 * value : 100 * (value - top), text: fixed(100 * value, 1) });
    }
  }
  const low = Math.min(...values.map((one) => one.heat)), high = Math.max(...values.map((one) => one.heat));
  for (const one of values) {
    const rgb = ramp(high > low ? (one.heat - low) / (high - low) : 1), light = luminance(rgb);
    one.fill = `rgb(${rgb})`;
    one.ink = (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff";
  }
  $("#heat-caption").textContent = `${data.measure} × 100 by dataset and model, models best first. ` +
    (heat.by === "score" ? "Bright is high." : "The colour is the distance to the best model of that dataset: bright is near.") +
    " An empty place was not measured.";
  const described = `${data.measure} of ${models.length} models on ${datasets.length} datasets; the leaderboard has the same numbers as a table.`;
  const room = $("#heat-chart").parentElement.clientWidth - 175;
  const wide = Math.max(46, Math.min(150, Math.floor(room / models.length)));
  const encoding = {
    x: { field: "model", type: "nominal", sort: models, title: null, axis: { orient: "top", labelAngle: wide < 90 ? -40 : 0, labelAlign: wide < 90 ? "left" : "center", domain: false, ticks: false, labelLimit: wide < 90 ? 150 : wide - 6 } },
    y: { field: "dataset", type: "nominal", sort: datasets, title: null, axis: { domain: false, ticks: false } },
  };
  return {
    empty: values.length ? "" : "There is no score to show.",
    tip: (one) => [[one.model], ["on", one.dataset], [data.measure, percent(one.value)]],
    spec: {
      description: "Heat map: " + described, data: { values }, width: { step: wide }, height: { step: datasets.length > 16 ? 24 : 34 }, encoding,
      layer: [
        { mark: { type: "rect", tooltip: { content: "data" }, cornerRadius: 3, stroke: colour("paper"), strokeWidth: 2, aria: false },
          encoding: { color: { field: "fill", type: "nominal", scale: null } } },
        { mark: { type: "text", fontSize: 12, tooltip: { content: "data" }, aria: false },
          encoding: { text: { field: "text", type: "nominal" }, color: { field: "ink", type: "nominal", scale: null } } },
      ],
    },
  };
}

// ---- scatters over cells: geometry and cost against quality ----------------------------------------------------------------

const names = {
  "geometry.documents.isotropy": "isotropy", "geometry.documents.isotropy_debiased": "isotropy, debiased",
  "documents per second": "documents per second", "manifest.run.peak_memory_bytes": "peak memory, GiB",
};
const called = (name) => names[name] ?? name.replace(/^(geometry\.documents|seconds|counts|cost|manifest\.run)\./, "").replace(/[_.]/g, " ") + (name.startsWith("seconds.") ? ", s" : "");

function measured(row, name) {
  if (name === "documents per second") {
    const spent = row["seconds.encode_documents"] || row["seconds.index"];
    return spent && row["counts.documents"] ? row["counts.documents"] / spent : null;
  }
  const value = row[name] ?? null;
  return name.endsWith("memory_bytes") && value !== null ? value / 2 ** 30 : value;
}

function pairsOf(state) {
  const chosen = state.dataset ? [state.dataset] : data.datasets;
  return rows.filter((row) => shownRow(row) && chosen.includes(row.dataset) && score(row) !== null && typeof measured(row, state.x) === "number")
    .map((row) => ({ model: row.model, dataset: row.dataset, x: measured(row, state.x), y: 100 * score(row), hue: hue(row.model), front: coloured.includes(row.model) ? 1 : 0 }));
}

function scatter(state, { log, description, none }) {
  const values = pairsOf(state), logged = log && values.every((one) => one.x > 0);
  return {
    empty: values.length ? "" : none, models: new Set(values.map((one) => one.model)),
    tip: (one) => [[one.model], ["on", one.dataset], [called(state.x), plain(one.x)], [data.measure, fixed(one.y, 2)]],
    spec: {
      description: `Scatter plot: ${description}; ${values.length} points. All results holds the numbers as a table.`,
      data: { values }, width: "container", height: 360,
      mark: { type: "point", filled: true, size: 90, tooltip: { content: "data" }, aria: false, stroke: colour("paper"), strokeWidth: 0.7 },
      encoding: {
        x: { field: "x", type: "quantitative", title: called(state.x), scale: logged ? { type: "log", nice: false, padding: 24 } : { zero: false, nice: false, padding: 24 }, axis: logged ? logAxis(values.map((one) => one.x)) : { tickCount: 6 } },
        y: { field: "y", type: "quantitative", title: data.measure + " × 100", scale: { zero: false, nice: false, padding: 20 }, axis: { tickCount: 6 } },
        ...hues(), opacity: { condition: { test: "datum.front === 1", value: 0.92 }, value: 0.45 },
      },
    },
  };
}

const wholeDatasets = () => [["", "all datasets"], ...data.datasets.map((dataset) => [dataset, dataset])];
const geometry = { dataset: "", x: "geometry.documents.isotropy" };
const cost = { dataset: "", x: "documents per second" };

function startScatters() {
  const numbers = (pattern) => data.rows.columns.filter((name) => pattern.test(name) && rows.some((row) => typeof row[name] === "number"));
  const panel = numbers(/^geometry\.documents\.(?!n$|d$)/);
  const speeds = ["documents per second", ...numbers(/^seconds\.[^/]*$/), ...numbers(/^(cost|energy)\./), "manifest.run.peak_memory_bytes"];
  if (cost.dataset === "" && data.datasets.length > 1) {
    const measuredBy = (dataset) => data.models.filter((model) => score(cell(model, dataset)) !== null).length;
    cost.dataset = [...data.datasets].sort((a, b) => measuredBy(b) - measuredBy(a))[0];
  }
  const controls = (name, state, options) => $(`#${name}-controls`).append(
    select("Across", options.map((one) => [one, called(one)]), state.x, (x) => { state.x = x; draw(name); }, name + "-x"),
    select("Of", wholeDatasets(), state.dataset, (dataset) => { state.dataset = dataset; draw(name); }, name + "-dataset"));
  $("#isotropy").hidden = !panel.length;
  if (panel.length) controls("isotropy", geometry, panel);
  controls("cost", cost, speeds);
  $("#isotropy-caption").textContent = `${data.measure} against the geometry of the document vectors, a point per model and dataset. ` +
    "Isotropy is 1 where the vectors spread equally in all directions, and falls as few directions take over (the notes define it). " +
    "It depends on how many documents and dimensions there are: compare within a dataset.";
  $("#cost-caption").textContent = `${data.measure} against what it took. Documents per second are of encoding (lexical models: of indexing); ` +
    "timings of different machines do not compare.";
  if (panel.length) chart("isotropy", () => scatter(geometry, { description: `${called(geometry.x)} against ${data.measure}`, none: "No shown result has this figure: geometry needs a dense model." }));
  chart("cost", () => scatter(cost, { log: true, description: `${called(cost.x)} against ${data.measure}`, none: "No shown result has this figure." }));
}

// ---- spectra --------------------------------------------------------------------------------------------------------------

const spectrum = { dataset: "" };
async function startSpectra() {
  const all = await block("spectra");
  $("#spectra").hidden = !all.length;
  if (!all.length) return;
  const datasets = allDatasets.filter((dataset) => all.some((one) => one.dataset === dataset));
  spectrum.dataset = datasets[0];
  $("#spectra-controls").append(select("Of", datasets, spectrum.dataset, (dataset) => { spectrum.dataset = dataset; draw("spectra"); }, "spectra-dataset"));
  $("#spectra-caption").textContent = "Eigenvalues of the document vectors' covariance, largest first, over their mean: a flat line is isotropic, " +
    `a steep one keeps its variance in few directions. At most ${data.limits.eigenvalues} of each spectrum, evenly spaced by the logarithm of their rank; zeros are left out.`;
  chart("spectra", () => {
    const shown = all.filter((one) => one.dataset === spectrum.dataset && has(one.model, filter.models));
    const values = shown.flatMap((one) => one.ranks.map((rank, place) => ({
      model: one.model, rank, value: one.values[place], ratio: one.values[place] / one.mean, hue: hue(one.model), front: coloured.includes(one.model) ? 1 : 0,
    })).filter((point) => point.ratio > 1e-9));
    const { color, order } = hues();
    const axis = (field, title) => ({ field, type: "quantitative", title, scale: { type: "log", nice: false }, axis: logAxis(values.map((one) => one[field])) });
    const encoding = { x: axis("rank", "rank of the eigenvalue"), y: axis("ratio", "eigenvalue ÷ mean eigenvalue"), color };
    return {
      empty: values.length ? "" : "No shown model has a spectrum on this dataset.", models: new Set(shown.map((one) => one.model)),
      tip: (one) => (one.model === undefined ? null : [[one.model], ["rank", plain(one.rank)], ["eigenvalue", String(one.value)], ["of the mean", plain(one.ratio)]]),
      spec: {
        description: `Line plot: eigenvalue spectra of ${shown.length} models on ${spectrum.dataset}, both axes logarithmic.`,
        data: { values }, width: "container", height: 360,
        layer: [
          ...[0, 1].filter((front) => values.some((one) => one.front === front)).map((front) => ({
            transform: [{ filter: { field: "front", equal: front } }], mark: { type: "line", strokeWidth: front ? 2.2 : 1.3, aria: false },
            encoding: { ...encoding, detail: { field: "model" } },
          })),
          { mark: { type: "point", filled: true, size: 120, opacity: 0, tooltip: { content: "data" }, aria: false }, encoding: { ...encoding, order } },
        ],
      },
    };
  });
  await draw("spectra");
}

// ---- training curves --------------------------------------------------------------------------------------------------------

const training = { y: "" };
async function startCurves() {
  const all = await block("curves");
  $("#curves").hidden = !all.length;
  if (!all.length) return;
  const figures = [...new Set(all.flatMap((run) => run.points.flatMap((point) => Object.keys(point))))].filter((name) => !["step", "epoch"].includes(name));
  training.y = figures.includes(data.measure) ? data.measure : figures[0];
  const parts = all.map((run) => run.run.split(/[/,]/));
  const label = (run) => run.run.split(/[/,]/).filter((part) => all.length === 1 || !parts.every((other) => other.includes(part))).join(", ") || run.run;
  $("#curves-controls").append(select("Show", figures.map((name) => [name, name.replace(/_/g, " ")]), training.y, (y) => { training.y = y; draw("curves"); }, "curves-y"));
  $("#curves-caption").textContent = "By training step; the scores are on each run's own dev set. A run is called by what sets it apart from the others.";
  chart("curves", () => {
    const runs = all.map((run, place) => ({ ...run, hue: place < SHAPES.length ? "c" + place : "none" }));
    const values = runs.flatMap((run) => run.points.filter((point) => typeof point[training.y] === "number")
      .map((point) => ({ run: run.run, name: label(run), step: point.step, value: point[training.y], hue: run.hue })));
    $("#curves .key").replaceChildren(...runs.map((run, place) => el("span", {}, swatch(place < SHAPES.length ? place : -1), el("span", { class: "name", title: run.run }, label(run)))));
    const encoding = {
      x: { field: "step", type: "quantitative", title: "step", axis: { tickCount: 6 } },
      y: { field: "value", type: "quantitative", title: training.y.replace(/_/g, " "), scale: { zero: false }, axis: { tickCount: 6 } },
      ...hues(), detail: { field: "run" },
    };
    delete encoding.order;
    const { shape, ...lines } = encoding;
    return {
      empty: values.length ? "" : "No run has this figure.",
      tip: (one) => (one.name === undefined ? null : [[one.name], ["step", plain(one.step)], [training.y, plain(one.value)]]),
      spec: {
        description: `Line plot: ${training.y} by training step, ${runs.length} runs.`, data: { values }, width: "container", height: 320,
        layer: [{ mark: { type: "line", strokeWidth: 2, aria: false }, encoding: lines },
          { mark: { type: "point", filled: true, size: 45, opacity: 0.9, tooltip: { content: "data" }, aria: false }, encoding: { ...lines, shape } }],
      },
    };
  });
  await draw("curves");
}
