// Tables that sort and pictures to compare. Nothing is fetched: the data stand in the page, the pictures beside it.
"use strict";

function cellKey(cell) {
  const text = cell.textContent.trim();
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return text === "" || text === "—" ? null : cell.classList.contains("number") ? null : text;
}

// Missing values come last in either order; rows that are equal keep their order.
function compareKeys(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const own = [...body.rows];
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  table.classList.add("sortable");
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.scope = "col";
    const first = heading.classList.contains("number") ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const order = before === null ? first : before === first ? second : null;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) heading.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const rows = order
        ? own.map((row) => [cellKey(row.cells[column]), row]).sort((a, b) => compareKeys(a[0], b[0], sign)).map((pair) => pair[1])
        : own;
      body.append(...rows);
    });
  });
}

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

const decibels = (value) => (value === undefined || value === null ? "" : `${value === Infinity ? "∞" : value.toFixed(2)} dB`);

function gallery(data) {
  const chosen = Object.fromEntries(["left", "right", "dataset", "order"].map((id) => [id, document.getElementById(id)]));
  const place = document.getElementById("gallery");
  const summary = document.getElementById("summary");
  const methods = new Map(data.methods.map((method) => [method.name, method]));
  const words = (name) => methods.get(name).label;

  function picture(name, alt) {
    const image = element("img", name);
    image.alt = alt;
    image.loading = "lazy";
    image.draggable = false;
    image.addEventListener("error", () => { document.getElementById("lacking").hidden = false; });
    return image;
  }

  function card(scene, number) {
    const under = picture("under-image", "");
    const over = picture("over-image", "");
    const tags = { left: element("span", "tag left"), right: element("span", "tag right") };
    const range = document.createElement("input");
    Object.assign(range, { type: "range", min: 0, max: 100, step: 1, value: 50, id: `cut-${number}` });
    const label = element("label", "unseen");
    label.htmlFor = range.id;
    const stage = element("div", "stage", under, over, element("span", "edge"), tags.left, tags.right, label, range);
    stage.style.aspectRatio = `${scene.width} / ${scene.height}`;
    range.addEventListener("input", () => {
      stage.style.setProperty("--cut", `${range.value}%`);
      range.setAttribute("aria-valuetext", `${range.value} % ${words(chosen.left.value)}`);
    });
    const title = element("h3", "", scene.scene);
    const enlarge = element("button", "", "Enlarge");
    enlarge.type = "button";
    enlarge.setAttribute("aria-label", `Enlarge ${scene.scene}`);
    enlarge.setAttribute("aria-pressed", "false");
    const strip = element("div", "strip");
    const shown = ["input", "restored", "target", "depth"].map((kind) => {
      const image = picture("", "");
      image.width = scene.width;
      image.height = scene.height;
      const caption = element("figcaption");
      strip.append(element("figure", kind, image, caption));
      return { image, caption };
    });
    const ranks = element("ul", "ranks");
    const all = element("details", "", element("summary", "", "All methods on this scene"), ranks);
    const made = element("article", "scene", element("header", "", title, element("span", "", scene.location), enlarge), stage, strip, all);
    enlarge.addEventListener("click", () => {
      const wide = made.classList.toggle("wide");
      enlarge.setAttribute("aria-pressed", String(wide));
      enlarge.textContent = wide ? "Reduce" : "Enlarge";
      made.scrollIntoView({ block: "nearest" });
    });

    function update() {
      const left = chosen.left.value;
      const right = chosen.right.value;
      const method = [right, left].find((name) => name !== data.input && name !== data.target) ?? right;
      for (const [side, name, image] of [["left", left, over], ["right", right, under]]) {
        const source = scene.pictures[name];
        image.hidden = source === undefined;
        if (source !== undefined) image.src = source;
        image.alt = `${scene.scene}: ${words(name)}`;
        tags[side].textContent = source === undefined ? `${words(name)}: no picture` : [words(name), decibels(scene.psnr[name])].join(" ");
      }
      label.textContent = `${scene.scene}: how much of the picture shows ${words(left)} instead of ${words(right)}`;
      const source = methods.get(method).depth;
      const depth = source || data.depth;
      const four = [
        [scene.pictures[data.input], "Input", decibels(scene.psnr[data.input])],
        [scene.pictures[method], words(method), decibels(scene.psnr[method])],
        [scene.pictures[data.target], "Target", ""],
        [scene.depths[depth], "Depth", source ? depth : `${depth}, not used`],
      ];
      four.forEach(([address, name, value], position) => {
        const { image, caption } = shown[position];
        image.parentElement.hidden = address === undefined;
        if (address !== undefined) image.src = address;
        image.alt = `${scene.scene}: ${name}`;
        caption.replaceChildren(name, ...(value ? [document.createElement("br"), value] : []));
      });
      if (all.open) rank();
    }

    function rank() {
      const known = data.methods.filter((method) => scene.psnr[method.name] !== undefined);
      known.sort((a, b) => scene.psnr[b.name] - scene.psnr[a.name]);
      const values = known.map((method) => scene.psnr[method.name]);
      const finite = values.filter(Number.isFinite);
      const lowest = Math.min(...finite) - 0.5;
      const span = Math.max(...finite) - lowest || 1;
      ranks.replaceChildren(...known.map((method) => {
        const value = scene.psnr[method.name];
        const row = element("li", method.name === chosen.right.value ? "shown" : "", element("span", "", method.label), element("span", "", decibels(value)));
        row.style.setProperty("--share", value === Infinity ? "100%" : `${(100 * (value - lowest)) / span}%`);
        return row;
      }));
    }

    all.addEventListener("toggle", () => { if (all.open) rank(); });
    return { scene, made, update };
  }

  const cards = data.scenes.map(card);
  const gain = (scene) => (scene.psnr[chosen.right.value] ?? NaN) - (scene.psnr[chosen.left.value] ?? NaN);

  function arrange() {
    const shown = cards.filter(({ scene }) => scene.dataset === chosen.dataset.value);
    const order = chosen.order.value;
    if (order !== "name") {
      const last = order === "gain" ? -Infinity : Infinity;
      const key = (one) => (Number.isNaN(gain(one.scene)) ? last : gain(one.scene));
      shown.sort((a, b) => (order === "gain" ? key(b) - key(a) : key(a) - key(b)));
    }
    place.replaceChildren(...shown.map(({ made }) => made));
    shown.forEach(({ update }) => update());
    const gains = shown.map(({ scene }) => gain(scene)).filter(Number.isFinite);
    const mean = gains.reduce((sum, value) => sum + value, 0) / gains.length;
    summary.textContent = gains.length
      ? `${shown.length} scenes, mean ${mean < 0 ? "−" : "+"}${Math.abs(mean).toFixed(2)} dB, better on ${gains.filter((value) => value > 0).length}`
      : `${shown.length} scenes`;
  }

  document.getElementById("bar").addEventListener("submit", (event) => event.preventDefault());
  Object.values(chosen).forEach((select) => select.addEventListener("change", arrange));
  arrange();
}

// A link to a folded table opens it.
function unfold() {
  const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
  if (target instanceof HTMLDetailsElement) target.open = true;
}

document.querySelectorAll("details.table table").forEach(makeSortable);
const stored = document.getElementById("data");
// JSON has no infinity, which the PSNR of a picture that equals its target is.
if (stored) gallery(JSON.parse(stored.textContent, (_, value) => (value === "∞" ? Infinity : value)));
window.addEventListener("hashchange", unfold);
unfold();
