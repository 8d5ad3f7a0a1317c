"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const { columns, kinds, slices, images, items } = data;
  const AT_ONCE = 48, IN_A_CARD = 3, HIT = 0, NOT_MEASURED = kinds.length - 1;
  let shown = items, made = 0, open = null;

  // all texts become text nodes: nothing of the data is ever read as markup
  function el(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made) made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  function svg(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  // --- pictures, made when they come into view
  const drawn = new Map();
  function drawings(image) {
    if (!drawn.has(image)) drawn.set(image, JSON.parse(find(`drawn-${image}`).textContent));
    return drawn.get(image);
  }
  function picture(item, result) {
    const [id, width, height] = images[item.image];
    const { paths, heat } = drawings(item.image);
    const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `image ${id}` });
    const whole = { width, height, preserveAspectRatio: "none" };
    made.append(svg("image", { href: find(`picture-${item.image}`).textContent, ...whole }));
    if (result.heat !== undefined) made.append(svg("image", { class: "heat", href: heat[result.heat], ...whole }));
    if (result.mask !== undefined) made.append(svg("path", { class: "m-mask", d: paths[result.mask] }));
    if (item.target !== undefined)
      for (const name of ["m-casing", "m-target"]) made.append(svg("path", { class: name, d: paths[item.target] }));
    return made;
  }
  const fill = (place) => place.replaceChildren(picture(place.item, place.result));
  const watch = new IntersectionObserver(
    (entries) => entries.forEach((entry) => (entry.isIntersecting ? fill(entry.target) : entry.target.replaceChildren())),
    { rootMargin: "500px" },
  );
  function frame(item, result) {
    const [, width, height] = images[item.image];
    if (width === null) return el("span", { className: "picture none" }, "picture left out");
    const place = el("span", { className: "picture" });
    place.style.aspectRatio = `${width} / ${height}`;
    return Object.assign(place, { item, result });
  }

  // --- what is said of a result
  const percent = (value) => (value === undefined ? "–" : (100 * value).toFixed(1));
  const right = (result) => result.kind === HIT;
  function said(result) {
    const [short] = kinds[result.kind];
    return result.iou === undefined ? short : `IoU ${percent(result.iou)}, ${short}`;
  }

  // --- filters
  const controls = ["search", "column", "verdict", "kind", "slice", "between", "order"];
  const [search, column, verdict, kind, slice, between, order] = controls.map(find);
  const texts = items.map((item) => `${item.text} ${images[item.image][0]} ${item.ref} ${item.sent}`.toLowerCase());
  const iou = (item, place) => item.results[place].iou ?? 0;
  const spread = (item) => Math.max(...item.results.map((one) => one.iou ?? 0)) - Math.min(...item.results.map((one) => one.iou ?? 0));
  const tests = {
    masks: (item) => new Set(item.results.map((one) => one.same)).size > 1,
    split: (item) => new Set(item.results.map(right)).size > 1,
  };
  columns.forEach((better, one) =>
    columns.forEach((worse, other) => {
      if (one !== other) tests[`${better} better than ${worse}`] = (item) => iou(item, one) > iou(item, other);
    }));
  const orders = {
    low: (of) => (one, other) => of(one) - of(other),
    high: (of) => (one, other) => of(other) - of(one),
    apart: () => (one, other) => spread(other) - spread(one),
  };
  function fits(result) {
    if (kind.value !== "" && result.kind !== +kind.value) return false;
    if (verdict.value === "" || result.kind === NOT_MEASURED) return verdict.value === "";
    return right(result) === (verdict.value === "right");
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = items.filter(
      (item, place) =>
        words.every((word) => texts[place].includes(word)) &&
        (slice.value === "" || item.slices.includes(+slice.value)) &&
        (between.value === "" || tests[between.value](item)) &&
        (column.value === "" ? item.results.some(fits) : fits(item.results[+column.value])),
    );
    if (order.value) shown.sort(orders[order.value]((item) => iou(item, +column.value)));
    const all = shown.length === items.length ? "all " : "";
    find("count").textContent = `${all}${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} expressions`;
    watch.disconnect();
    cards.replaceChildren();
    cards.classList.toggle("wide", column.value === "" && columns.length > 1);
    made = 0;
    more();
  }

  // --- cards, a screen at a time
  const cards = find("cards");
  function card(item, place) {
    const own = column.value === "" ? columns.map((_, number) => number).slice(0, IN_A_CARD) : [+column.value];
    const left = column.value === "" ? columns.length - own.length : 0;
    const strip = el("span", { className: "strip" });
    for (const number of own) {
      const result = item.results[number], place = frame(item, result);
      if (place.item) watch.observe(place);
      const name = columns.length > 1 ? `${columns[number]}: ` : "";
      strip.append(el("span", {}, place, el("span", { className: "under" }, name, el("b", {}, said(result)))));
    }
    const button = el("button", { type: "button", className: "card" }, strip, el("span", {}, item.text));
    if (left) button.append(el("span", { className: "under" }, `and ${left} more`));
    button.dataset.place = place;
    button.addEventListener("click", () => show(place));
    return el("li", {}, button);
  }
  function more() {
    const next = shown.slice(made, made + AT_ONCE).map((item, place) => card(item, made + place));
    made += next.length;
    cards.append(...next);
  }
  new IntersectionObserver((entries) => entries[0].isIntersecting && made && more(), { rootMargin: "900px" }).observe(find("more"));
  function focusCard(place) {
    while (made <= place && made < shown.length) more();
    cards.children[place]?.firstChild.focus();
  }

  // --- an opened item
  const dialog = find("item");
  function marked(item) {
    const lower = item.text.toLowerCase(), marks = Array.from(item.text, () => new Set());
    // what is spoken of beside what is meant mostly stands behind it
    const add = (name, part, from = 0) => {
      const behind = part ? lower.indexOf(part.toLowerCase(), from) : -1;
      const at = behind < 0 && part ? lower.indexOf(part.toLowerCase()) : behind;
      for (let i = at; at >= 0 && i < at + part.length && i < marks.length; i++) marks[i].add(name);
    };
    const parsed = item.parsed ?? {};
    add("phrase", item.phrase);
    add("head", parsed.head);
    const from = item.phrase ? lower.indexOf(item.phrase.toLowerCase()) + item.phrase.length : 0;
    (parsed.anchors ?? []).forEach((anchor) => add("anchor", anchor, from));
    (parsed.relations ?? []).forEach((relation) => add("relation", relation.kind));
    [...(parsed.places ?? []), ...(parsed.superlatives ?? [])].forEach((word) => add("relation", word));
    const heading = el("h2", { id: "item-text" }), characters = Array.from(item.text);
    for (let start = 0, end; start < characters.length; start = end) {
      const name = [...(marks[start] ?? [])].join(" ");
      for (end = start + 1; end < characters.length && [...(marks[end] ?? [])].join(" ") === name; end++);
      const part = characters.slice(start, end).join("");
      heading.append(name ? el("span", { className: name }, part) : part);
    }
    return heading;
  }
  function facts(item) {
    const parsed = item.parsed ?? {}, list = el("ul", { className: "facts" });
    const fact = (name, text, mark = "") => list.append(el("li", {}, el("small", {}, `${name} `), el("span", { className: mark }, text)));
    if (item.phrase) fact("noun phrase", item.phrase, "phrase");
    if (parsed.head) fact("head", parsed.head, "head");
    for (const one of parsed.relations ?? []) {
      const of = one.of === undefined ? parsed.head : parsed.anchors?.[one.of];
      fact("relation", `${of ?? ""} ${one.negated ? "not " : ""}`, "head");
      list.lastChild.append(el("span", { className: "relation" }, one.kind), " ", el("span", { className: "anchor" }, parsed.anchors?.[one.anchor] ?? ""));
    }
    for (const name of ["places", "superlatives", "ordinal", "size", "count"])
      if (parsed[name] !== undefined) fact(name, [parsed[name]].flat().join(", "));
    fact("slices", item.slices.map((number) => slices[number].join(": ")).join("; ") || "none");
    fact("image", `${images[item.image][0]}, ref ${item.ref}, sentence ${item.sent}`);
    return list;
  }
  function ranking(item, result, place) {
    if (!result.ranked) return el("p", { className: "notes" }, "The run keeps no other proposals' scores.");
    const body = el("tbody"), { paths } = place.item ? drawings(item.image) : {};
    result.ranked.forEach(([number, score, own, mask], rank) => {
      const told = `rank ${rank + 1}: proposal ${number}, score ${score}` + (own === null ? "" : `, IoU ${percent(own)}`);
      const button = el("button", { type: "button", title: told }, `${number}${number === result.choice ? " (chosen)" : ""}`);
      const line = el("tr", {}, el("td", {}, String(rank + 1)), el("td", {}, button), el("td", {}, String(score)), el("td", {}, own === null ? "–" : percent(own)));
      if (mask !== undefined && paths) {
        const path = svg("path", { class: "m-ranked", d: paths[mask] }), title = svg("title", {});
        title.textContent = told;
        path.append(title);
        place.firstChild.append(path);
        const light = (on) => [path, button].forEach((one) => one.classList.toggle("on", on));
        for (const one of [line, path]) {
          one.addEventListener("mouseenter", () => light(true));
          one.addEventListener("mouseleave", () => light(false));
        }
        button.addEventListener("focus", () => light(true));
        button.addEventListener("blur", () => light(false));
      }
      body.append(line);
    });
    const head = el("tr", {}, ...["Rank", "Proposal", "Score", "IoU"].map((name) => el("th", { scope: "col" }, name)));
    return el("table", { className: "ranking" }, el("thead", {}, head), body);
  }
  function panel(item, number) {
    const result = item.results[number], place = frame(item, result);
    if (place.item) fill(place);
    const lines = [el("b", {}, columns[number]), ` ${kinds[result.kind][1]}`];
    if (result.iou !== undefined) lines.push(`; IoU ${percent(result.iou)}`);
    if (result.score !== undefined) lines.push(`, score ${result.score}`);
    if (result.tied) lines.push(", which another proposal has, too");
    if (result.chosen) lines.push(`; proposals ${result.chosen.join(", ")} together`);
    if (result.failure) lines.push(`; ${result.failure}`);
    const best = result.best ? `Best proposal: ${result.best[0]}, IoU ${percent(result.best[1])}.` : null;
    return el("section", { "aria-label": columns[number] }, place, el("p", {}, ...lines, "."), best && el("p", { className: "notes" }, best), ranking(item, result, place));
  }
  function show(place) {
    if (place < 0 || place >= shown.length) return;
    open = place;
    const item = shown[place];
    const step = (by, name) => el("button", { type: "button", disabled: !shown[place + by], onclick: () => show(place + by) }, name);
    const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
    const counted = `${(place + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    const bar = el("div", { className: "bar-of" }, el("span", {}, counted), step(-1, "← Previous"), step(1, "Next →"), close);
    const panels = el("div", { className: "panels" }, ...columns.map((_, number) => panel(item, number)));
    const switches = el("div", { className: "switches" });
    const layers = { mask: "chosen mask", target: "ground truth", ...(item.results.some((one) => one.heat !== undefined) && { heat: "heat map" }) };
    for (const [name, label] of Object.entries(layers)) {
      const box = el("input", { type: "checkbox", checked: !dialog.classList.contains(`hide-${name}`) });
      box.addEventListener("change", () => dialog.classList.toggle(`hide-${name}`, !box.checked));
      switches.append(el("label", {}, box, " ", el("span", { className: `key ${name}` }), label));
    }
    dialog.replaceChildren(bar, marked(item), facts(item), switches, panels);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    close.focus();
  }
  dialog.addEventListener("close", () => focusCard(open));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  // --- keyboard
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typing && !dialog.open) {
      event.preventDefault();
      search.focus();
    } else if (dialog.open && !typing && event.key.match(/^Arrow(Left|Right)$/)) {
      event.preventDefault();
      show(open + steps[event.key]);
    } else if (!dialog.open && event.target.classList?.contains("card") && steps[event.key]) {
      event.preventDefault();
      focusCard(+event.target.dataset.place + steps[event.key]);
    }
  });

  // --- choices, and charts that filter
  const option = (value, text) => el("option", { value: String(value) }, text);
  column.append(...columns.map((name, place) => option(place, name)));
  const there = new Set(items.flatMap((item) => item.results.map((one) => one.kind)));
  kind.append(...kinds.map(([short], place) => option(place, short)).filter((_, place) => there.has(place)));
  const groups = new Map();
  slices.forEach(([name, value], place) => {
    if (!groups.has(name)) groups.set(name, el("optgroup", { label: name }));
    groups.get(name).append(option(place, value));
  });
  slice.append(...groups.values());
  between.append(...Object.keys(tests).slice(2).map((name) => option(name, name)));
  if (columns.length < 2) find("between-label").hidden = true;
  column.parentElement.hidden = columns.length < 2;
  slice.parentElement.hidden = !slices.length;
  const form = find("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", filter);
  for (const control of [column, verdict, kind, slice, between, order]) control.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  function jump(values) {
    form.reset();
    for (const [control, value] of values) control.value = String(value);
    filter();
    find("gallery").scrollIntoView();
    focusCard(0);
  }
  document.querySelectorAll("[data-kind]").forEach((button) =>
    button.addEventListener("click", () => jump([[column, button.dataset.column], [kind, data.names.indexOf(button.dataset.kind)]])));
  document.querySelectorAll("[data-slice]").forEach((button) => {
    const wanted = ([name, value]) => name === button.dataset.sliceKind && value === button.dataset.slice;
    button.addEventListener("click", () => jump([[slice, slices.findIndex(wanted)]]));
  });
  document.querySelectorAll("[data-figure]").forEach((button) =>
    button.addEventListener("click", () => {
      document.querySelectorAll("[data-figure]").forEach((one) => one.setAttribute("aria-pressed", one === button));
      document.querySelectorAll("[data-of]").forEach((one) => (one.hidden = one.dataset.of !== button.dataset.figure));
    }));
  filter();
})();
