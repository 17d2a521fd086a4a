// The viewer.
const LAYERS = ["errors", "marks", "label", "prediction"];
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
let current = null;
let zoom = 1;

function picture(row, layers, description) {
  const frame = frames[row.case];
  const box = make("div", { className: "picture" });
  box.style.aspectRatio = `${frame.width} / ${frame.height}`;
  box.append(make("img", { src: frame.image, alt: description }));
  const overlays = { label: frame.labels[row.class], prediction: row.prediction, errors: row.errors };
  for (const layer of ["prediction", "errors", "label"])
    if (layers.includes(layer)) {
      const image = make("img", { src: overlays[layer], alt: "" });
      image.dataset.layer = layer;
      box.append(image);
    }
  if (layers.includes("marks")) box.append(markPicture(row, frame));
  return box;
}
function markPicture(row, frame) {
  const svg = svgShape("svg", { viewBox: `0 0 ${frame.width} ${frame.height}`, "aria-hidden": "true", "data-layer": "marks" });
  const least = Math.max(frame.width, frame.height) / 40;
  for (const { kind, x, y, r } of row.marks) {
    const size = r + least;
    const [cx, cy] = [x + 0.5, y + 0.5];
    const shapes = {
      break: ["circle", { cx, cy, r: size }],
      miss: ["path", { d: `M${cx} ${cy - 1.5 * size}L${cx + 1.4 * size} ${cy + size}H${cx - 1.4 * size}z` }],
      false: ["rect", { x: cx - size, y: cy - size, width: 2 * size, height: 2 * size }],
    };
    svg.append(svgShape(shapes[kind][0], { ...shapes[kind][1], class: "mark" }));
  }
  return svg;
}
// The part of a picture around the wire, so that a small picture shows it large.
function cropped(row, layers, description) {
  const [left, top, width, height] = frames[row.case].box;
  const inner = picture(row, layers, description);
  Object.assign(inner.style, {
    width: `${(100 * frames[row.case].width) / width}%`,
    left: `${(-100 * left) / width}%`,
    top: `${(-100 * top) / height}%`,
  });
  const box = make("div", { className: "cropped" }, inner);
  box.style.aspectRatio = `${width} / ${height}`;
  return box;
}
// Enlarged pixels stay sharp; shrunk ones are averaged, or thin wires would vanish between them.
function sharpen() {
  for (const box of document.querySelectorAll(".picture"))
    box.classList.toggle("enlarged", box.clientWidth * devicePixelRatio >= frames[current.case].width);
}

function show(row) {
  const other = row.case !== current?.case;
  current = row;
  showCurrent();
  if (other) scrollStage(wireMiddle());
}
function showFirst() {
  const [first] = pictured();
  if (first) return show(first);
  current = null;
  for (const id of ["viewer-title", "viewer-figures", "stage", "others"]) byId(id).replaceChildren();
  showPosition();
}
function showCurrent() {
  if (!current) return;
  const layers = LAYERS.filter((layer) => byId(`layer-${layer}`).checked);
  const count = (kind) => current.counts[kind] ?? 0;
  byId("viewer-title").textContent = [current.case, titles[current.entry], which(current)].filter(Boolean).join(" · ");
  byId("viewer-figures").textContent = [
    `sequence ${current.sequence}`,
    ...columns.map((column, index) => `${column.title} ${figureText(current.values[index], column)}`),
    `breaks ${count("break")}`,
    `missed stretches ${count("miss")}`,
    `false wires ${count("false")}`,
  ].join(" · ");
  const box = picture(current, layers, `Frame ${current.case}; ${layers.join(", ") || "no layers"} of ${titles[current.entry]}`);
  box.style.width = stageWidth();
  byId("stage").replaceChildren(box);
  showOthers();
  sharpen();
  showPosition();
}
function showOthers() {
  const same = rows.filter(
    (row) => row.case === current.case && row.class === current.class && row.seed === current.seed && isShown(row.entry),
  );
  same.sort((a, b) => a.entry - b.entry);
  const plain = [
    make("figure", {}, cropped(current, [], `Frame ${current.case}`), make("figcaption", { textContent: "frame" })),
    make("figure", {}, cropped(current, ["label"], `Frame ${current.case} with its label`), make("figcaption", { textContent: "label" })),
  ];
  const predicted = same.map((row) => {
    const button = make("button", { type: "button" }, cropped(row, ["errors"], `Errors of ${titles[row.entry]}`));
    button.addEventListener("click", () => show(row));
    const caption = `${titles[row.entry]}, ${columns[0].title} ${figureText(row.values[0], columns[0])}`;
    const figure = make("figure", {}, button, make("figcaption", { textContent: caption }));
    figure.className = row === current ? "current" : "";
    return figure;
  });
  const focused = [...byId("others").querySelectorAll("button")].indexOf(document.activeElement);
  byId("others").replaceChildren(...plain, ...predicted);
  if (focused >= 0) byId("others").querySelectorAll("button")[focused]?.focus({ preventScroll: true });
}
const pictured = () => listed.filter((row) => row.errors);
function showPosition() {
  const list = pictured();
  const index = list.indexOf(current);
  byId("position").textContent = list.length === 0 ? "no pictures" : `${index < 0 ? "-" : index + 1} of ${list.length}`;
  byId("previous").disabled = index === 0 || list.length === 0;
  byId("next").disabled = index === list.length - 1 || list.length === 0;
  document.querySelector("tr.current")?.classList.remove("current");
  current?.element?.classList.add("current");
}
function step(by) {
  const list = pictured();
  if (list.length === 0) return;
  const index = list.indexOf(current);
  show(list[index < 0 ? 0 : Math.min(Math.max(index + by, 0), list.length - 1)]);
  const table = byId("frame-table").closest(".scroll");
  const row = current.element;
  if (row?.isConnected) table.scrollTop = row.offsetTop - table.clientHeight / 2;
}
function changeZoom(by) {
  if (!current) return;
  const before = zoom;
  zoom = ZOOMS[Math.min(Math.max(ZOOMS.indexOf(zoom) + by, 0), ZOOMS.length - 1)];
  const middle = before === 1 ? wireMiddle() : shownMiddle();
  byId("stage").firstElementChild.style.width = stageWidth();
  sharpen();
  scrollStage(middle);
  byId("zoom").textContent = `${zoom} ×`;
}
// At zoom 1 the whole frame is seen, however low the window is.
const stageWidth = () => {
  const { width, height } = frames[current.case];
  return `calc(${zoom} * min(100%, ${((75 * width) / height).toFixed(3)}vh))`;
};
// Places in the enlarged frame, as shares of its width and height.
const wireMiddle = () => {
  const { box: [left, top, width, height], ...frame } = frames[current.case];
  return [(left + width / 2) / frame.width, (top + height / 2) / frame.height];
};
const shownMiddle = () => {
  const stage = byId("stage");
  return [(stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth, (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight];
};
function scrollStage([x, y]) {
  const stage = byId("stage");
  stage.scrollLeft = x * stage.scrollWidth - stage.clientWidth / 2;
  stage.scrollTop = y * stage.scrollHeight - stage.clientHeight / 2;
}
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("zoom-in").addEventListener("click", () => changeZoom(1));
byId("zoom-out").addEventListener("click", () => changeZoom(-1));
for (const layer of LAYERS) byId(`layer-${layer}`).addEventListener("change", showCurrent);
addEventListener("resize", () => current && sharpen());

const keys = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  k: () => step(-1),
  j: () => step(1),
  "+": () => changeZoom(1),
  "=": () => changeZoom(1),
  "-": () => changeZoom(-1),
  "/": () => byId("filter").focus(),
};
for (const layer of LAYERS) keys[layer[0]] = () => byId(`layer-${layer}`).click();
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=search]");
  const scrolls = event.target.closest(".scroll, pre") || (event.target === byId("stage") && zoom > 1);
  if (event.ctrlKey || event.altKey || event.metaKey || typing || (scrolls && event.key.startsWith("Arrow"))) return;
  const action = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!action || !current) return;
  event.preventDefault();
  action();
});

// Thumbnails of sequences lead to their row, cells to the worst of those that they are the mean of.
const picturedRow = ({ dataset }) =>
  rows.find(
    (row) =>
      row.errors &&
      row.case === dataset.case &&
      String(row.entry) === dataset.of &&
      row.class === (dataset.class ?? row.class) &&
      String(row.seed) === (dataset.seed ?? String(row.seed)),
  );
for (const cell of document.querySelectorAll(".cell")) cell.classList.toggle("pictured", cell.dataset.case in frames);
byId("sequences").addEventListener("click", (event) => {
  const row = event.target.closest("[data-case]") && picturedRow(event.target.closest("[data-case]"));
  if (!row) return;
  show(row);
  byId("viewer").scrollIntoView({ block: "start" });
  byId("stage").focus({ preventScroll: true });
});

listRows();
showFirst();
