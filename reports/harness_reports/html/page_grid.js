// Tables: one component that sorts and downloads.

// columns: {key, title, value(row), show(row) -> text or element, words, head, up, hint}; rows keep their order until a
// heading is pressed. Rows without a value come last, whichever way a column is sorted.
function ordered(columns, records, state) {
  const by = columns.find((column) => column.key === state.key);
  if (!by) return [...records];
  const side = state.down ? -1 : 1;
  return [...records].sort((a, b) => {
    const x = by.value(a) ?? null, y = by.value(b) ?? null;
    if (x === null || y === null) return (x === null) - (y === null);
    return side * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
  });
}

function grid(place, label, columns, records, state, limit = Infinity) {
  const focus = place.contains(document.activeElement) ? document.activeElement.dataset.column : undefined;
  const press = (column) => () => {
    state.down = state.key === column.key ? !state.down : !column.words && !column.up;
    state.key = column.key;
    remember();
    grid(place, label, columns, records, state, limit);
  };
  const classes = (column, record) => [column.words ? "words" : "", column.style ?? "", record && column.mark ? column.mark(record) : ""].filter(Boolean).join(" ") || null;
  const head = columns.map((column) => {
    const direction = state.key !== column.key ? "none" : state.down ? "descending" : "ascending";
    const pressed = el("button", { type: "button", "data-column": column.key, title: column.hint, onclick: press(column) },
      el("span", {}, column.title), el("span", { class: "arrow", "aria-hidden": "true" }));
    return el("th", { scope: "col", "aria-sort": direction, class: classes(column) }, pressed);
  });
  const body = ordered(columns, records, state).slice(0, limit).map((record) => el("tr", {}, ...columns.map((column) => {
    const value = column.value(record) ?? null, shown = column.show(record);
    const attributes = { class: classes(column, record), "data-column": column.key, "data-value": typeof value === "number" ? String(value) : null };
    const made = column.head ? el("th", { ...attributes, scope: "row" }, shown) : el("td", attributes, shown);
    const tint = column.tint ? column.tint(record) : null;
    if (tint !== null && tint !== undefined) made.style.setProperty("--t", tint.toFixed(3));
    return made;
  })));
  if (!body.length) body.push(el("tr", {}, el("td", { colspan: columns.length, class: "words" }, "Nothing matches the filters.")));
  place.replaceChildren(el("table", {}, el("caption", { class: "unseen" }, label),
    el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)));
  place.download = () => csv([columns.map((column) => column.name ?? column.title),
    ...ordered(columns, records, state).map((record) => columns.map((column) => (column.plain ?? column.value)(record)))]);
  if (focus) place.querySelector(`thead [data-column="${CSS.escape(focus)}"]`)?.focus();
}

const csvButton = (name, place) => button("CSV", { "aria-label": `Download as CSV: ${name}`, title: "Download what is shown, in full precision",
  onclick: () => download(fileName(data.title, name) + ".csv", $(place).download(), "text/csv") });
