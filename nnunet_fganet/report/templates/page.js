"use strict";
(() => {
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
    showCurrent();
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
  const sharpen = (box, row) => box.classList.toggle("enlarged", box.clientWidth * devicePixelRatio >= frames[row.case].width);

  function show(row) {
    const other = row.case !== current?.case;
    current = row;
    showCurrent();
    if (other) scrollStage(wireMiddle());
  }
  function showCurrent() {
    if (!current) return;
    const layers = LAYERS.filter((layer) => byId(`layer-${layer}`).checked);
    const count = (kind) => current.counts[kind] ?? 0;
    byId("viewer-title").textContent = `${current.case} · ${titles[current.entry]}`;
    byId("viewer-figures").textContent = [
      `sequence ${current.sequence}`,
      ...columns.map((column, index) => `${column.title} ${figureText(current.values[index], column)}`),
      `breaks ${count("break")}`,
      `missed stretches ${count("miss")}`,
      `false wires ${count("false")}`,
    ].join(" · ");
    const box = picture(current, layers, `Frame ${current.case}; ${layers.join(", ") || "no layers"} of ${titles[current.entry]}`);
    box.style.width = `${100 * zoom}%`;
    byId("stage").replaceChildren(box);
    sharpen(box, current);
    showOthers();
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
    for (const figure of byId("others").children) sharpen(figure.querySelector(".picture"), current);
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
    const before = zoom;
    zoom = ZOOMS[Math.min(Math.max(ZOOMS.indexOf(zoom) + by, 0), ZOOMS.length - 1)];
    const middle = before === 1 ? wireMiddle() : shownMiddle();
    const box = byId("stage").firstElementChild;
    box.style.width = `${100 * zoom}%`;
    sharpen(box, current);
    scrollStage(middle);
    byId("zoom").textContent = `${zoom} ×`;
  }
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
  addEventListener("resize", () => current && showCurrent());

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

  // Cells and thumbnails of sequences lead to the viewer.
  const picturedRow = (element) =>
    rows.find((row) => row.case === element.dataset.case && String(row.entry) === element.dataset.of && row.errors);
  for (const cell of document.querySelectorAll(".cell")) cell.classList.toggle("pictured", cell.dataset.case in frames);
  byId("sequences").addEventListener("click", (event) => {
    const row = event.target.closest("[data-case]") && picturedRow(event.target.closest("[data-case]"));
    if (!row) return;
    show(row);
    byId("viewer").scrollIntoView({ block: "start" });
    byId("stage").focus({ preventScroll: true });
  });

  listRows();
  if (listed.length > 0) show(listed[0]);
})();
