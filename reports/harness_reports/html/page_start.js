// The notes, the sections, and the start of everything.

function startNotes() {
  const said = [...(data.notes ?? [])];
  if (!data.notes) ownNotes(said);
  $("#notes-list").append(...[...new Set(said)].map((text) => el("li", {}, text.replace(/^Rank: /, "Plausible ranks: "))));
  const made = rows.map((row) => row["manifest.run.started"]).filter(Boolean).sort();
  const days = [...new Set([made[0], made.at(-1)].filter(Boolean).map((when) => String(when).slice(0, 10)))].join(" to ");
  $("#lead").textContent = `${count(data.models.length, "model")} on ${count(allDatasets.length, "dataset")}, ${count(rows.length, "result")}${days ? `, measured ${days}` : ""}. ` +
    `${data.measure} by the rules of trec_eval 10.0; every value is a stored one.`;
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

// What is above the linked section grows while it is drawn.
let moved = false;
const jump = () => { if (!moved && location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" }); };

async function start() {
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) addEventListener(kind, () => { moved = true; }, { once: true, passive: true });
  listenToTheme();
  startNotes();
  startLeaderboard();
  startEvery();
  listenToFilter();
  startDialog();
  await new Promise((ready) => requestAnimationFrame(() => setTimeout(ready)));
  document.documentElement.dataset.tables = "ready";
  startHeat();
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
  jump();
  document.documentElement.dataset.charts = "ready";
}

start();
