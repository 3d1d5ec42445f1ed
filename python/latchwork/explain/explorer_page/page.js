// What is chosen, and what happens on a click, a key, or another choice.

const at = (id) => document.getElementById(id);

const state = {
  about: null, corpus: null, maps: null, layer: null,
  sequence: 0, layerNumber: 0, step: 0, unit: 0, from: 0, to: 0, threshold: 3,
  hover: null, memory: null, loaded: new Map(), drawing: false, order: [],
};

function notice(text) {
  at("notice").textContent = text;
  at("notice").hidden = false;
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    notice("This browser is too old to unpack the data: it takes Chromium 86, Firefox 113, Safari 16.4 or later.");
    return;
  }
  state.about = JSON.parse(new TextDecoder().decode(await unpacked("about")));
  const {about} = state;
  if (at("corpus")) state.corpus = new Corpus(await unpacked("corpus"), about.layers);
  at("network").textContent = about.network;
  fillChoices();
  state.maps = new Maps(at("view"));
  listen();
  applyTheme();
  await showLayer();
  at("picture").dataset.ready = "true";
}

function option(value, text) {
  return element("option", {value}, text);
}

function fillChoices() {
  const {about} = state;
  at("sequence").append(...about.sequences.map((sequence, place) => {
    const parts = [];
    if (about.members > 1) parts.push(`member ${sequence.member}`);
    if (about.rows > 1) parts.push(`row ${sequence.row}`);
    return option(place, parts.join(", "));
  }));
  at("sequence-field").hidden = about.sequences.length < 2;
  at("layer").append(...about.layers.map((layer, place) => option(place, `${layer.name} (${plural(layer.units, "unit")}${layer.reverse ? ", from the end" : ""})`)));
  at("maps-shown").append(option("all", "all six"), ...MAPS.map((map) => option(map.name, `${map.symbol}, ${map.title}`)));
  at("threshold").append(...about.thresholds.map((threshold, place) => option(place, String(threshold))));
  at("threshold").value = state.threshold;
}

// Of the sequence that is shown. While the values of another one that was chosen are unpacked, it is the old one.
const sequenceFacts = () => state.layer.sequence;

async function showLayer() {
  const {about, sequence, layerNumber} = state, key = `${sequence}-${layerNumber}`;
  let layer = state.loaded.get(key);
  if (!layer) {
    const facts = about.sequences[sequence];
    layer = new LayerValues(about.layers[layerNumber], facts, facts.layers[layerNumber], await unpacked(`values-${key}`));
    if (key !== `${state.sequence}-${state.layerNumber}`) return; // something else was chosen meanwhile
    if (state.loaded.size >= 3) state.loaded.delete(state.loaded.keys().next().value);
    state.loaded.set(key, layer);
  }
  state.layer = layer;
  state.hover = state.rangeShown = null; // they were of another layer
  state.step = Math.min(state.step, layer.steps - 1);
  state.unit = Math.min(state.unit, layer.units - 1);
  state.from = Math.min(state.from, layer.steps - 1);
  state.to = Math.min(state.to, layer.steps - 1);
  for (const id of ["step", "from", "to"]) at(id).max = layer.steps - 1;
  at("unit").max = layer.units - 1;
  at("threshold-name").textContent = layer.facts.projects ? "Cell beyond" : "Output beyond";
  if (!state.sized) {
    state.sized = true;
    const room = at("view").clientWidth - GUTTER;
    state.maps.stepWidth = Math.max(12, Math.min(60, room / layer.steps));
  }
  showOrder();
  choose({});
}

// "3, 8-15": units; null if it cannot be read.
function unitsNamed(text, count) {
  if (!text.trim()) return null;
  const units = new Set();
  for (const part of text.split(",")) {
    const range = /^\s*(\d+)\s*(?:[-–]\s*(\d+)\s*)?$/.exec(part);
    if (!range) return `cannot read “${part.trim()}”: write units as 3, 8-15`;
    const first = Number(range[1]), last = range[2] === undefined ? first : Number(range[2]);
    if (first > last || last >= count) return `“${part.trim()}”: units go from 0 to ${count - 1}`;
    for (let unit = first; unit <= last; unit++) units.add(unit);
  }
  return units;
}

function showOrder() {
  const {layer} = state, units = unitsNamed(at("filter").value, layer.units), wrong = typeof units === "string";
  at("filter-error").textContent = wrong ? units : "";
  at("filter").setAttribute("aria-invalid", String(wrong));
  let order;
  if (at("order").value === "similar") order = [...layer.similar];
  else {
    order = Array.from({length: layer.units}, (_, unit) => unit);
    const activity = layer.activity();
    if (at("order").value === "activity") order.sort((a, b) => activity[b] - activity[a] || a - b);
  }
  if (units && !wrong) order = order.filter((unit) => units.has(unit));
  state.order = order;
  at("all-units").hidden = !units || wrong;
  if (!order.includes(state.unit)) state.unit = order[0];
  state.maps.show(layer, order, sequenceFacts().tokens, sequenceFacts().tracks);
  if (state.maps.unitHeight === null && state.maps.fitHeight < 1) state.maps.unitHeight = 2;
  if (state.maps.unitHeight !== null && state.maps.unitHeight < state.maps.fitHeight) state.maps.unitHeight = null;
  state.maps.resize();
  at("view").scrollTop = Math.min(at("view").scrollTop, at("sizer").clientHeight - at("view").clientHeight);
}

// Chooses a step, a unit and a range; what is not named stays.
function choose({step = state.step, unit = state.unit, from = state.from, to = state.to, reveal = false}) {
  Object.assign(state, {step, unit, from: Math.min(from, to), to: Math.max(from, to)});
  const {layer} = state;
  at("step").value = step;
  at("unit").value = unit;
  at("from").value = state.from;
  at("to").value = state.to;
  state.memory = memoryTerms(layer, unit, step);
  if (reveal) state.maps.reveal(step, unit);
  showMemory(layer, state.memory, sequenceFacts().tokens, (chosen) => choose({step: chosen, from: chosen, to: chosen, reveal: true}));
  showPlace();
  showRange();
  redraw();
}

function showPlace() {
  const {hover, step, unit, layer} = state;
  const place = hover ? {step: hover.step, unit: hover.unit === null ? unit : hover.unit, output: hover.output} : {step, unit};
  showStep(layer, place, sequenceFacts().tokens, sequenceFacts().tracks);
}

// Looking for places takes a while in a long corpus, so only what has changed is looked for.
function showRange() {
  const {layer, corpus, from, to, threshold, about} = state, key = `${from} ${to} ${threshold}`;
  if (key === state.rangeShown) return;
  state.rangeShown = key;
  const limit = about.thresholds[threshold], on = unitsOn(layer, from, to, limit), tokens = sequenceFacts().tokens;
  state.on = on;
  showUnitsOn(on, {from, to}, Number((limit * layer.facts.scale).toPrecision(3)), layer.facts.projects ? "c" : "h", (unit) => choose({unit, reveal: true}));
  const groups = [{
    name: "this sequence", labels: tokens,
    places: on.length ? placesOf(countsHere(layer, on, limit), [layer.steps], on.length, {from, to}, {from, to}) : [],
    goTo: (place) => choose({step: place.from, from: place.from, to: place.to, reveal: true}),
  }];
  if (corpus) {
    groups.push({
      name: "the corpus", labels: corpus.tokens, goTo: null,
      places: on.length ? placesOf(countsInCorpus(corpus, about.layers.indexOf(layer.facts), on, threshold + 1), corpus.ends, on.length, {from, to}, null) : [],
    });
  }
  showPlaces(groups, on.length, {from, to});
}

// Draws at the next frame, once, however often it is asked for.
function redraw() {
  if (state.drawing) return;
  state.drawing = true;
  requestAnimationFrame(() => {
    state.drawing = false;
    state.maps.draw(state.memory);
    drawMarks();
  });
}

function drawMarks() {
  state.maps.drawMarks({step: state.step, unit: state.unit}, {from: state.from, to: state.to}, state.hover);
}

function applyTheme() {
  const chosen = at("theme").value, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = chosen === "system" ? (dark ? "dark" : "light") : chosen;
  document.documentElement.dataset.theme = theme;
  state.maps.setTheme(theme);
  if (state.layer) redraw();
}

// Changes the size of steps or units, and keeps what is chosen in sight.
function resized(change) {
  change();
  state.maps.resize();
  state.maps.reveal(state.step, state.unit);
  redraw();
}

function listen() {
  const {maps} = state, view = at("view");
  at("toolbar").addEventListener("submit", (event) => event.preventDefault());
  at("sequence").addEventListener("change", () => {
    state.sequence = Number(at("sequence").value);
    showLayer();
  });
  at("layer").addEventListener("change", () => {
    state.layerNumber = Number(at("layer").value);
    at("filter").value = "";
    showLayer();
  });
  at("maps-shown").addEventListener("change", () => resized(() => {
    const chosen = at("maps-shown").value;
    maps.names = MAPS.map((map) => map.name).filter((name) => chosen === "all" || name === chosen);
    maps.unitHeight = null;
    showOrder();
  }));
  for (const id of ["order", "filter"]) {
    at(id).addEventListener("input", () => {
      maps.unitHeight = null;
      showOrder();
      choose({});
    });
  }
  at("narrower").addEventListener("click", () => resized(() => { maps.stepWidth = Math.max(0.25, maps.stepWidth / 1.5); }));
  at("wider").addEventListener("click", () => resized(() => { maps.stepWidth = Math.min(60, maps.stepWidth * 1.5); }));
  at("fit-steps").addEventListener("click", () => resized(() => { maps.stepWidth = Math.min(60, maps.mapWidth / state.layer.steps); }));
  at("lower").addEventListener("click", () => resized(() => {
    const height = maps.rowHeight / 1.5;
    maps.unitHeight = height <= maps.fitHeight ? null : height;
  }));
  at("higher").addEventListener("click", () => resized(() => { maps.unitHeight = Math.min(40, maps.rowHeight * 1.5); }));
  at("fit-units").addEventListener("click", () => resized(() => { maps.unitHeight = null; }));
  at("theme").addEventListener("change", applyTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
  for (const id of ["step", "unit", "from", "to"]) at(id).addEventListener("change", () => writtenNumber(id));
  at("threshold").addEventListener("change", () => {
    state.threshold = Number(at("threshold").value);
    showRange();
  });
  at("keep-units").addEventListener("click", () => {
    at("filter").value = state.on.map(({unit}) => unit).join(", ");
    at("filter").dispatchEvent(new Event("input"));
  });
  at("all-units").addEventListener("click", () => {
    at("filter").value = "";
    at("filter").dispatchEvent(new Event("input"));
  });
  view.addEventListener("scroll", redraw);
  view.addEventListener("keydown", pressed);
  new ResizeObserver(() => {
    if (!state.layer) return;
    maps.resize();
    redraw();
  }).observe(view);
  listenToPointer(view);
}

// A number that was typed: put within its bounds; what is no number changes nothing.
function writtenNumber(id) {
  const field = at(id), number = Math.round(Number(field.value));
  const value = field.value.trim() === "" || !Number.isFinite(number) ? state[id] : Math.min(Number(field.max), Math.max(0, number));
  if (id === "from") choose({from: value, to: Math.max(value, state.to)});
  else if (id === "to") choose({from: Math.min(value, state.from), to: value});
  else if (id === "step") choose({step: value, reveal: true});
  else if (state.order.includes(value)) choose({unit: value, reveal: true});
  else choose({});
}

function listenToPointer(view) {
  const {maps} = state;
  let dragFrom = null;
  const hit = (event) => {
    const box = view.getBoundingClientRect();
    return maps.hit(event.clientX - box.left, event.clientY - box.top);
  };
  // Within the view but on its scroll bars nothing is pointed at.
  const inside = (event) => {
    const box = view.getBoundingClientRect();
    return event.clientX - box.left < view.clientWidth && event.clientY - box.top < view.clientHeight;
  };
  view.addEventListener("pointermove", (event) => {
    if (!state.layer) return;
    const place = inside(event) ? hit(event) : null;
    if (dragFrom !== null && place && place.step !== dragFrom.step) {
      state.from = Math.min(dragFrom.step, place.step);
      state.to = Math.max(dragFrom.step, place.step);
    }
    if (event.pointerType === "touch") return;
    state.hover = place;
    showPlace();
    drawMarks();
  });
  view.addEventListener("pointerleave", () => {
    if (!state.layer) return;
    state.hover = null;
    showPlace();
    drawMarks();
  });
  view.addEventListener("pointerdown", (event) => {
    if (state.layer && event.button === 0 && event.pointerType !== "touch" && inside(event)) dragFrom = hit(event);
  });
  // The end of a drag may be anywhere.
  window.addEventListener("pointerup", () => {
    if (dragFrom !== null && state.from !== state.to) choose({from: state.from, to: state.to});
  });
  view.addEventListener("click", (event) => {
    const from = dragFrom;
    dragFrom = null;
    const place = state.layer && inside(event) ? hit(event) : null;
    if (!place || (from && from.step !== place.step)) return;
    const unit = place.unit === null ? state.unit : place.unit;
    if (event.shiftKey) choose({unit, from: Math.min(state.step, place.step), to: Math.max(state.step, place.step)});
    else choose({step: place.step, unit, from: place.step, to: place.step});
  });
}

function pressed(event) {
  const {layer, order} = state;
  if (!layer || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity};
  const row = order.indexOf(state.unit), last = layer.steps - 1;
  if (event.key in moves) {
    const step = Math.min(last, Math.max(0, state.step + moves[event.key]));
    if (event.shiftKey) {
      // The end of the range that moves is the one at the chosen step.
      const anchor = state.step === state.from ? state.to : state.from;
      choose({step, from: Math.min(anchor, step), to: Math.max(anchor, step), reveal: true});
    } else choose({step, from: step, to: step, reveal: true});
  } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const next = Math.min(order.length - 1, Math.max(0, row + (event.key === "ArrowDown" ? 1 : -1)));
    choose({unit: order[next], reveal: true});
  } else if (event.key === "Enter" || event.key === "Escape") choose({from: state.step, to: state.step});
  else return;
  event.preventDefault();
  state.hover = null;
  say();
}

// A little later, so that a held key does not fill the queue of a screen reader.
function say() {
  clearTimeout(state.saying);
  state.saying = setTimeout(() => {
    const range = state.from < state.to ? `; steps ${state.from} to ${state.to} chosen, ${plural(state.on.length, "unit")} on throughout` : "";
    at("said").textContent = spoken(state.layer, {step: state.step, unit: state.unit}, sequenceFacts().tokens) + range;
  }, 120);
}

start().catch((error) => {
  notice(`The page could not be read: ${error.message}. The file may be damaged.`);
  throw error;
});
