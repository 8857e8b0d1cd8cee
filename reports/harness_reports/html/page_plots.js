// Scatter plots of geometry and of cost against quality, eigenvalue spectra, training curves.

const RATE = "documents per second";
const FACTS = ["fact.parameters", "fact.dim", "fact.max_tokens"];
const MORE_IS_BETTER = new Set([RATE]);

function measured(row, name) {
  if (name === RATE) {
    const spent = row["seconds.encode_documents"] || row["seconds.index"];
    return spent && row["counts.documents"] ? row["counts.documents"] / spent : null;
  }
  return name.startsWith("fact.") ? facts(row.model)[name.slice(5)] ?? null : inUnits(name, row[name] ?? null);
}

// The points of a plot: a result on the dataset, or, of what holds for a model as a whole, its mean over datasets.
function pointsOf(state) {
  const point = (model, dataset, x, y) => ({
    model, label: brief(model), dataset, x, y, parameters: facts(model).parameters ?? 0, ...looks(model),
  });
  const mean = averages.find((one) => one.average === state.dataset);
  const found = mean
    ? shownModels().map((model) => point(model, mean.average, facts(model)[state.x.slice(5)] ?? null, averageOf.get(model + "\n" + mean.average).value))
    : rows.filter((row) => shownRow(row) && (state.dataset ? row.dataset === state.dataset : data.datasets.includes(row.dataset)))
      .map((row) => point(row.model, row.dataset, measured(row, state.x), score(row, mean ? measureKey : state.y)));
  const unit = told(state.y, 1) === "100.00" ? 100 : 1;
  return found.filter((one) => typeof one.x === "number" && typeof one.y === "number").map((one) => ({ ...one, y: unit * one.y }));
}

// Points that no other one beats in both: as good at less cost, or better at the same.
function pareto(points, more) {
  const side = more ? -1 : 1;
  let top = -Infinity;
  const front = [...points].sort((a, b) => side * (a.x - b.x) || b.y - a.y).filter((one) => one.y > top && ((top = one.y), true));
  return front.sort((a, b) => a.x - b.x);
}

// An axis for a single value.
const around = (value) => [value - (Math.abs(value) / 10 || 1), value + (Math.abs(value) / 10 || 1)];
const textOf = (key, value) => (key.startsWith("fact.") ? (key === "fact.parameters" ? millions(value) : plain(value)) : plain(value));
const axisTitle = (key) => called(key) + (told(key, 1) === "100.00" ? " × 100" : "");

function scatter(state, { log, front, none }) {
  const values = pointsOf(state), logged = log && values.every((one) => one.x > 0), sized = front && values.some((one) => one.parameters);
  const best = front ? pareto(values, MORE_IS_BETTER.has(state.x)) : [];
  const linear = (of) => ({ zero: false, nice: false, padding: 24, ...(values.length && values.every((one) => of(one) === of(values[0])) ? { domain: around(of(values[0])) } : {}) });
  const encoding = {
    x: { field: "x", type: "quantitative", title: axisTitle(state.x), scale: logged ? { type: "log", nice: false, padding: 30 } : linear((one) => one.x), axis: logged ? logAxis(values.map((one) => one.x)) : { tickCount: 6 } },
    y: { field: "y", type: "quantitative", title: axisTitle(state.y), scale: linear((one) => one.y), axis: { tickCount: 6 } },
  };
  const sizes = sized ? { size: { field: "parameters", type: "quantitative", scale: { type: "sqrt", range: [80, 420], domain: [0, Math.max(...values.map((one) => one.parameters))] }, legend: null } } : { size: { value: 90 } };
  const line = { data: { values: best }, mark: { type: "line", interpolate: MORE_IS_BETTER.has(state.x) ? "step-before" : "step-after", strokeDash: [5, 4], strokeWidth: 1.4, color: colour("soft"), aria: false }, encoding };
  // labels stay inside: to the right of points on the left, and the other way round
  const scaled = (x) => (logged ? Math.log(x) : x), middle = (Math.min(...values.map((one) => scaled(one.x))) + Math.max(...values.map((one) => scaled(one.x)))) / 2;
  const labels = ["left", "right"].map((align) => ({
    data: { values: best.filter((one) => (scaled(one.x) <= middle) === (align === "left")) },
    mark: { type: "text", dy: -14, dx: align === "left" ? -6 : 6, fontSize: 11.5, limit: 240, align, aria: false, color: colour("ink") }, encoding: { ...encoding, text: { field: "label", type: "nominal" } },
  }));
  return {
    empty: values.length ? "" : none, models: new Set(values.map((one) => one.model)),
    tip: (one) => (one.model === undefined ? null : [[one.model], ["on", one.dataset], [called(state.x), textOf(state.x, one.x)], [called(state.y), told(state.y, 1) === "100.00" ? fixed(one.y, 2) : plain(one.y)],
      ...(one.parameters && state.x !== "fact.parameters" ? [["Parameters", millions(one.parameters)]] : []), ...(best.some((other) => other.model === one.model && other.dataset === one.dataset) ? [["On the Pareto front"]] : [])]),
    spec: {
      description: `Scatter plot: ${called(state.x)} against ${called(state.y)} on ${state.dataset || "all datasets"}; ${values.length} points` +
        (front && best.length ? `, on the Pareto front ${best.map((one) => one.model).join(", ")}` : "") + ". All results holds the numbers as a table.",
      width: "container", height: 360,
      layer: [
        ...(best.length > 1 ? [line] : []),
        { data: { values }, mark: { type: "point", filled: true, tooltip: { content: "data" }, aria: false, stroke: colour("paper"), strokeWidth: 0.7 },
          encoding: { ...encoding, ...hues(values), ...sizes, opacity: { condition: { test: "datum.front === 1", value: 0.92 }, value: 0.45 } } },
        ...labels.filter((layer) => layer.data.values.length),
      ],
    },
  };
}

const geometry = {}, cost = {};
const measuredOn = (dataset, name) => rows.filter((row) => row.dataset === dataset && score(row) !== null && typeof measured(row, name) === "number").length;
const mostMeasured = (name) => [...data.datasets].sort((a, b) => measuredOn(b, name) - measuredOn(a, name))[0] ?? "";

function startScatter(name, title, state, options, short, make, all) {
  const metrics = data.rows.columns.filter((key) => key.startsWith("measures."));
  const first = options[0];
  bind(state, "x", short + "x", first, (key) => options.includes(key));
  bind(state, "y", short + "y", measureKey, (key) => metrics.includes(key));
  const datasets = () => [...(state.x.startsWith("fact.") && state.y === measureKey ? averages.map((one) => one.average) : []), ...data.datasets, ...(all ? [["", "all datasets"]] : [])];
  bind(state, "dataset", short + "data", mostMeasured(first), (dataset) => datasets().some((one) => [one].flat()[0] === dataset));
  const place = $(`#${name}-controls`);
  const redraw = () => {
    const focus = document.activeElement?.id;
    if (!datasets().some((one) => [one].flat()[0] === state.dataset)) state.dataset = mostMeasured(state.x);
    place.querySelectorAll("label").forEach((label) => label.remove());
    const set = (key) => (value) => { state[key] = value; redraw(); draw(name); };
    place.prepend(select("Dataset", datasets(), state.dataset, set("dataset"), name + "-dataset"),
      select("x axis", menu(options), state.x, set("x"), name + "-x"), select("y axis", menu([measureKey, ...metrics.filter((key) => key !== measureKey)]), state.y, set("y"), name + "-y"));
    if (focus?.startsWith(name + "-")) document.getElementById(focus)?.focus();
  };
  chart(name, title, () => scatter(state, make()));
  redraw();
}

function startScatters() {
  const numbers = (pattern) => data.rows.columns.filter((name) => pattern.test(name) && rows.some((row) => typeof row[name] === "number"));
  const panel = numbers(/^geometry\.documents\.(?!n$|d$)/).sort((a, b) => b.endsWith(".isotropy") - a.endsWith(".isotropy"));
  const spent = [RATE, ...numbers(/^seconds\.[^/]*$/), "manifest.run.peak_memory_bytes", ...numbers(/^index\.(bytes|build_seconds)$/), ...numbers(/^(cost|energy)\./),
    ...FACTS.filter((name) => data.models.some((model) => typeof facts(model)[name.slice(5)] === "number"))];
  $("#isotropy").hidden = !panel.length;
  if (panel.length) {
    startScatter("isotropy", "Geometry against quality", geometry, panel, "g", () => ({ none: "No shown result has this value: geometry needs a dense model." }), true);
    $("#isotropy-caption").textContent = "A point per model. Isotropy is 1 where the vectors spread equally in all directions, and falls as few directions take over (the notes define it). " +
      "It depends on how many documents and dimensions there are: compare within a dataset.";
  }
  startScatter("cost", "Cost against quality", cost, spent, "c", () => ({ log: true, front: true, none: "No shown result has this value." }), false);
  $("#cost-caption").textContent = "The dashed line is the Pareto front: no shown model is both better and cheaper than one on it. " +
    (data.models.some((model) => facts(model).parameters) ? "A larger mark has more parameters. " : "") +
    "Documents per second are of encoding (lexical models: of indexing); timings of different machines do not compare.";
}

// ---- spectra --------------------------------------------------------------------------------------------------------------

const spectrum = {};
async function startSpectra() {
  const all = await block("spectra");
  $("#spectra").hidden = !all.length;
  if (!all.length) return;
  const datasets = allDatasets.filter((dataset) => all.some((one) => one.dataset === dataset));
  bind(spectrum, "dataset", "sdata", datasets[0], (dataset) => datasets.includes(dataset));
  $("#spectra-controls").append(select("Dataset", datasets, spectrum.dataset, (dataset) => { spectrum.dataset = dataset; draw("spectra"); }, "spectra-dataset"));
  $("#spectra-caption").textContent = "Eigenvalues of the document vectors' covariance, largest first, over their mean: a flat line is isotropic, " +
    `a steep one keeps its variance in few directions. At most ${data.limits.eigenvalues} of each spectrum, evenly spaced by the logarithm of their rank; zeros are left out.`;
  chart("spectra", "Eigenvalue spectra", () => {
    const shown = all.filter((one) => one.dataset === spectrum.dataset && shownModel(one.model));
    const values = shown.flatMap((one) => one.ranks.map((rank, place) => ({
      model: one.model, rank, value: one.values[place], ratio: one.values[place] / one.mean, ...looks(one.model),
    })).filter((point) => point.ratio > 1e-9));
    const { color, order } = hues(values);
    const axis = (field, title) => ({ field, type: "quantitative", title, scale: { type: "log", nice: false }, axis: logAxis(values.map((one) => one[field])) });
    const encoding = { x: axis("rank", "rank of the eigenvalue"), y: axis("ratio", "eigenvalue ÷ mean eigenvalue"), color };
    return {
      empty: values.length ? "" : "No shown model has a spectrum on this dataset.", models: new Set(shown.map((one) => one.model)),
      tip: (one) => (one.model === undefined ? null : [[one.model], ["rank", plain(one.rank)], ["eigenvalue", exact(one.value)], ["of the mean", plain(one.ratio)]]),
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

const training = {};
async function startCurves() {
  const all = await block("curves");
  $("#curves").hidden = !all.length;
  if (!all.length) return;
  const figures = [...new Set(all.flatMap((run) => run.points.flatMap((point) => Object.keys(point))))].filter((name) => !["step", "epoch"].includes(name));
  bind(training, "y", "curve", figures.includes(data.measure) ? data.measure : figures[0], (name) => figures.includes(name));
  const title = (name) => (/[@]/.test(name) ? metric(name) : sentence(name.replace(/_/g, " ")));
  const parts = all.map((run) => run.run.split(/[/,]/));
  const label = (run) => run.run.split(/[/,]/).filter((part) => all.length === 1 || !parts.every((other) => other.includes(part))).join(", ") || run.run;
  $("#curves-controls").append(select("y axis", figures.map((name) => [name, title(name)]), training.y, (y) => { training.y = y; draw("curves"); }, "curves-y"));
  $("#curves-caption").textContent = "By training step; the scores are on each run's own dev set. A run is called by what sets it apart from the others.";
  chart("curves", "Training curves", () => {
    const place = (at) => (at < SHAPES.length ? at : -1);
    const values = all.flatMap((run, at) => run.points.filter((point) => typeof point[training.y] === "number")
      .map((point) => ({ run: run.run, name: label(run), step: point.step, value: point[training.y], key: at < SHAPES.length ? label(run) : "other runs" })));
    $("#curves .key").replaceChildren(...all.map((run, at) => el("span", {}, swatch(place(at)), el("span", { class: "name", title: run.run }, label(run)))));
    const encoding = {
      x: { field: "step", type: "quantitative", title: "Step", axis: { tickCount: 6 } },
      y: { field: "value", type: "quantitative", title: title(training.y), scale: { zero: false }, axis: { tickCount: 6 } },
      ...hues(values, [...all.slice(0, SHAPES.length).map((run, at) => [label(run), at]), ["other runs", -1]]), detail: { field: "run" },
    };
    delete encoding.order;
    const { shape, ...lines } = encoding;
    return {
      empty: values.length ? "" : "No run has this value.",
      tip: (one) => (one.name === undefined ? null : [[one.name], ["Step", plain(one.step)], [title(training.y), plain(one.value)]]),
      spec: {
        description: `Line plot: ${title(training.y)} by training step, ${all.length} runs.`, data: { values }, width: "container", height: 320,
        layer: [{ mark: { type: "line", strokeWidth: 2, aria: false }, encoding: lines },
          { mark: { type: "point", filled: true, size: 45, opacity: 0.9, tooltip: { content: "data" }, aria: false }, encoding: { ...lines, shape } }],
      },
    };
  });
  await draw("curves");
}
