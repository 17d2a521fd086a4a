const { titles, columns, rows, frames } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const make = (kind, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...children);
  return element;
};
const svgShape = (kind, attributes) => {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  return shape;
};
const figureText = (value, column) => {
  if (value === null) return "-";
  if (column.yes) return value ? "yes" : "no";
  if (column.percent) return `${(100 * value).toFixed(1)}\u00a0%`;
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
};

// Which networks are shown, everywhere on the page.
const boxes = [...document.querySelectorAll("[data-filter]")];
const isShown = (entry) => boxes[entry].checked;
function filterNetworks() {
  for (const element of document.querySelectorAll("[data-entry]"))
    element.toggleAttribute("data-off", !isShown(element.dataset.entry));
  listRows();
  if (current && isShown(current.entry)) showCurrent();
  else showFirst();
}
const setAll = (checked) => {
  for (const box of boxes) box.checked = checked;
  filterNetworks();
};
for (const box of boxes) box.addEventListener("change", filterNetworks);
byId("all-networks").addEventListener("click", () => setAll(true));
byId("no-networks").addEventListener("click", () => setAll(false));
document.addEventListener("click", (event) => {
  if (!byId("networks").contains(event.target)) byId("networks").open = false;
});

// Sorting: what is empty comes last in either direction.
const compare = (a, b, direction) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
};
function toggleSort(heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  return direction;
}
for (const table of document.querySelectorAll("table.sortable"))
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    const cells = [...table.tBodies[0].rows].map((row) => row.cells[heading.cellIndex]);
    const numeric = cells.some((cell) => "value" in cell.dataset);
    const value = (cell) => (numeric ? ("value" in cell.dataset ? Number(cell.dataset.value) : null) : cell.textContent);
    const direction = toggleSort(heading);
    cells.sort((a, b) => compare(value(a), value(b), direction));
    table.tBodies[0].append(...cells.map((cell) => cell.parentElement));
  });

// The list of frames.
const ROWS_AT_ONCE = 100;
const several = (key) => new Set(rows.map((row) => row[key])).size > 1;
const told = ["class", "seed"].filter(several);
const which = (row) => told.map((key) => (key === "seed" ? `seed ${row.seed}` : row.class)).join(", ");
const listColumns = [
  { title: "frame", value: (row) => row.case },
  { title: "sequence", value: (row) => row.sequence, text: true },
  { title: "network", value: (row) => titles[row.entry], text: true },
  ...["class", "fold", "seed"].filter(several).map((key) => ({ title: key, value: (row) => row[key], text: key === "class" })),
  ...columns.map((column, index) => ({ title: column.title, value: (row) => row.values[index], column })),
];
for (const row of rows)
  row.words = [row.case, row.sequence, titles[row.entry], row.class, `fold ${row.fold}`, `seed ${row.seed}`].join(" ").toLowerCase();
let listed = [];
let limit = ROWS_AT_ONCE;
let sorting = null;
const headings = byId("frame-table").tHead.rows[0];
for (const column of listColumns) {
  const heading = make("th", { scope: "col", className: column.text ? "text" : "" }, make("button", { type: "button", textContent: column.title }));
  heading.addEventListener("click", () => {
    sorting = { column, direction: toggleSort(heading) };
    listRows();
  });
  headings.append(heading);
}
headings.children[listColumns.findIndex((column) => column.column)]?.setAttribute("aria-sort", "ascending");

function listRows() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const onlyPictured = byId("only-pictured").checked;
  listed = rows.filter(
    (row) => isShown(row.entry) && (!onlyPictured || row.errors) && words.every((word) => row.words.includes(word)),
  );
  if (sorting) listed.sort((a, b) => compare(sorting.column.value(a), sorting.column.value(b), sorting.direction));
  drawRows();
}
function drawRows() {
  byId("frame-table").tBodies[0].replaceChildren(...listed.slice(0, limit).map(rowElement));
  byId("more").hidden = listed.length <= limit;
  byId("count").textContent = `${listed.length} of ${rows.length} predictions`;
  showPosition();
}
function rowElement(row) {
  const element = make("tr");
  for (const column of listColumns) {
    const value = column.value(row);
    const text = column.column ? figureText(value, column.column) : String(value);
    element.append(make("td", { textContent: text, className: column.text ? "text" : "" }));
  }
  if (row.errors) {
    const button = make("button", { type: "button", textContent: row.case });
    element.cells[0].replaceChildren(button);
    element.className = "pictured";
    element.addEventListener("click", () => show(row));
  }
  row.element = element;
  return element;
}
byId("filter").addEventListener("input", () => {
  limit = ROWS_AT_ONCE;
  listRows();
});
byId("only-pictured").addEventListener("change", listRows);
byId("more").addEventListener("click", () => {
  limit += ROWS_AT_ONCE;
  drawRows();
});
