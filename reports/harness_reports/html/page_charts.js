// Plots: Vega-Lite specifications, drawn once the tables are there, and again when filter, colours or theme change.

const charts = new Map();

// make() gives {spec, tip(datum) -> [[label, value]...], empty}; what it says in words goes into the label of the plot.
function chart(name, title, make) {
  charts.set(name, { make, view: null, turn: 0 });
  $(`#${name}-controls`).append(el("span", { class: "downloads" },
    ...["PNG", "SVG"].map((form) => button(form, { "aria-label": `Download as ${form}: ${title}`, title: `Download the plot as ${form}`, onclick: () => saveChart(name, title, form) }))));
}

async function draw(name) {
  const one = charts.get(name), place = $(`#${name}-chart`), turn = ++one.turn;
  const made = await one.make();
  if (turn !== one.turn) return;
  one.view?.finalize();
  one.view = null;
  drawKey(place.parentElement.querySelector(".key"), made.models);
  document.querySelectorAll(`#${name}-controls .downloads button`).forEach((pressed) => { pressed.disabled = Boolean(made.empty); });
  if (made.empty) {
    for (const name of ["role", "aria-label", "aria-roledescription"]) place.removeAttribute(name);
    place.replaceChildren(el("p", { class: "empty" }, made.empty));
    return;
  }
  const tooltip = (handler, event, item) => showTip(event, item && item.datum && made.tip ? made.tip(item.datum) : null);
  const drawn = await vegaEmbed(place, { ...frame(), ...made.spec }, {
    ast: true, actions: false, defaultStyle: false, renderer: made.canvas ? "canvas" : "svg", config: look(), tooltip, hover: false,
  });
  if (turn !== one.turn) drawn.finalize();
  else one.view = drawn;
}

// As it is shown, on the page's own ground and with a legend inside; PNG at twice the size.
let legends = false;
async function saveChart(name, title, form) {
  const shown = charts.get(name).view?.view;
  if (!shown) return;
  legends = true;
  const { spec } = await charts.get(name).make();
  legends = false;
  const width = spec.width === "container" ? { width: shown.width() } : {};
  const { view, finalize } = await vegaEmbed(el("div"), { ...frame(), ...spec, ...width, background: colour("paper") }, {
    ast: true, actions: false, defaultStyle: false, renderer: "none", config: look(), tooltip: false,
  });
  const file = `${fileName(data.title, title)}.${form.toLowerCase()}`;
  if (form === "PNG") download(file, await view.toImageURL("png", 2));
  else download(file, await view.toSVG(), "image/svg+xml");
  finalize();
}

const frame = () => ({ $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: null, padding: { left: 4, top: 6, bottom: 4, right: 16 } });

function look() {
  // printed, the plots of a dark page are turned light
  document.documentElement.dataset.shade = luminance(getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number)) < 0.2 ? "dark" : "light";
  const ink = colour("ink"), soft = colour("soft"), line = colour("line");
  const font = getComputedStyle(document.body).fontFamily;
  return {
    font, view: { stroke: null },
    axis: {
      labelColor: soft, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12,
      titleFontSize: 12.5, titleFontWeight: 500, titlePadding: 10, labelLimit: 170, gridOpacity: 0.8, labelPadding: 5,
    },
    text: { color: ink, font }, legend: { labelColor: ink, labelFontSize: 12, labelFont: font },
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
  return { values, format: high >= 1e6 ? "~s" : "~g" };
}

// Colour and shape of models: those chosen have their own, and lie above the grey rest. A key is [name, place of its colour].
const OTHERS = "other models";
const keyOf = (model) => { const place = placeOfColour(model); return place < 0 ? OTHERS : brief(coloured[place]); };
const looks = (model) => ({ key: keyOf(model), front: placeOfColour(model) < 0 ? 0 : 1 });
const modelKeys = () => [[OTHERS, -1], ...coloured.flatMap((model, place) => (model ? [[brief(model), place]] : []))];

function hues(values, keys = modelKeys()) {
  const used = keys.filter(([key]) => values.some((one) => one.key === key)), domain = used.map(([key]) => key);
  const legend = legends ? { title: null, orient: "top", columns: 3, labelLimit: 320, symbolOpacity: 1, symbolSize: 90 } : null;
  return {
    color: { field: "key", type: "nominal", scale: { domain, range: used.map(([, place]) => colour(place < 0 ? "none" : "c" + place)) }, legend },
    shape: { field: "key", type: "nominal", scale: { domain, range: used.map(([, place]) => SHAPES[place] ?? "circle") }, legend },
    order: { field: "front", type: "quantitative" },
  };
}

function drawKey(key, models) {
  if (!key || !models) return;
  const rows = new Set([...models].map((model) => rowOf.get(model) ?? model)), shown = coloured.filter((model) => rows.has(model));
  key.replaceChildren(...shown.map((model) => el("span", {}, swatch(coloured.indexOf(model)), breakable(model))),
    ...(rows.size > shown.length ? [el("span", {}, swatch(-1), shown.length ? OTHERS : "models without a colour")] : []));
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

const heat = {};
function heatMap() {
  const models = shownModels().filter((model) => data.datasets.some((dataset) => scoreOf(model, dataset) !== null));
  const datasets = shownDatasets().filter((dataset) => models.some((model) => scoreOf(model, dataset) !== null));
  const values = [];
  for (const dataset of datasets) {
    const top = Math.max(...models.map((model) => scoreOf(model, dataset) ?? -1));
    for (const model of models) {
      const value = scoreOf(model, dataset);
      if (value !== null) values.push({ model, label: brief(model), dataset, value, heat: heat.by === "score" ? 100 * value : 100 * (value - top), text: fixed(heat.by === "score" ? 100 * value : 100 * (value - top), 1) });
    }
  }
  const low = Math.min(...values.map((one) => one.heat)), high = Math.max(...values.map((one) => one.heat));
  for (const one of values) {
    const rgb = ramp(high > low ? (one.heat - low) / (high - low) : 1), light = luminance(rgb);
    one.fill = `rgb(${rgb})`;
    one.ink = (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff";
  }
  $("#heat-caption").textContent = `${metric(data.measure)} × 100 by model and dataset, models best first. ` +
    (heat.by === "score" ? "Bright is high." : "Colour and number are the distance to the best model of that dataset: bright is near.") +
    " An empty place was not measured.";
  const small = innerWidth < 640;
  const room = $("#heat-chart").parentElement.clientWidth - (small ? 150 : 280);
  const wide = Math.max(46, Math.min(150, Math.floor(room / datasets.length))), sloped = wide < 8 * Math.max(0, ...datasets.map((dataset) => dataset.length));
  const encoding = {
    x: { field: "dataset", type: "nominal", sort: datasets, title: null, axis: { orient: "top", labelAngle: sloped ? -40 : 0, labelAlign: sloped ? "left" : "center", domain: false, ticks: false, labelLimit: sloped ? 150 : wide } },
    y: { field: "label", type: "nominal", sort: models.map(brief), title: null, axis: { domain: false, ticks: false, labelLimit: small ? 140 : 270 } },
  };
  return {
    empty: values.length ? "" : "There is no score to show.",
    tip: (one) => [[one.model], ["on", one.dataset], [metric(data.measure), percent(one.value)]],
    spec: {
      description: `Heat map: ${data.measure} of ${models.length} models on ${datasets.length} datasets; the leaderboard has the same numbers as a table.`,
      data: { values }, width: { step: wide }, height: { step: models.length > 16 ? 24 : 30 }, encoding,
      layer: [
        { mark: { type: "rect", tooltip: { content: "data" }, cornerRadius: 3, stroke: colour("paper"), strokeWidth: 2, aria: false },
          encoding: { color: { field: "fill", type: "nominal", scale: null } } },
        { mark: { type: "text", fontSize: 12, tooltip: { content: "data" }, aria: false },
          encoding: { text: { field: "text", type: "nominal" }, color: { field: "ink", type: "nominal", scale: null } } },
      ],
    },
  };
}

function startHeat() {
  bind(heat, "by", "heat", "score", (by) => ["score", "gap"].includes(by));
  $("#heat-controls").append(select("Colour by", [["score", metric(data.measure)], ["gap", "distance to the best"]], heat.by, (by) => { heat.by = by; draw("heat"); }, "heat-by"));
  chart("heat", "Heat map", heatMap);
}
