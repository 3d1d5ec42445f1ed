// What stands beside the pictures: the equations of a step, the steps that wrote a cell, and the range.

const MOST_WRITERS = 6;

// An element. Text that comes from the user's data only ever goes in as text.
function element(name, attributes, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else made.setAttribute(key, value);
  }
  made.append(...content);
  return made;
}

// A formula: what stands after an underscore is a subscript.
function formula(text) {
  const parts = text.split(/(_(?:prev|[a-z]))/).map((part) => (part.startsWith("_") ? element("sub", {}, part.slice(1)) : part));
  return element("span", {class: "formula"}, ...parts);
}

function label(text, length = Infinity) {
  return element("bdi", {class: "label"}, shortened(readable(text), length));
}

function gateFormula(layer, gate, letter) {
  const {facts} = layer, name = facts.activations[gate];
  const sum = facts.layerNorm ? `N(W_${letter} x) + N(R_${letter} h_prev) + b_${letter}` : `W_${letter} x + R_${letter} h_prev + b_${letter}`;
  const peephole = facts.peephole && letter !== "g" ? ` + p_${letter} ${letter === "o" ? "c" : "c_prev"}` : "";
  return `${name}(${sum}${peephole})${facts.clip === null ? "" : `, cut off at ±${facts.clip}`}`;
}

// The lines of one step and unit: the symbol, what it is, the formula, the same with numbers, and the result.
function equationLines(layer, unit, step) {
  const {facts} = layer, at = (name) => layer.at(name, unit, step), cPrev = layer.cPrev(unit, step);
  const [i, f, g, o, c] = [at("input_gate"), at("forget_gate"), at("candidate"), at("output_gate"), at("cell")];
  const lines = [];
  lines.push({symbol: "i", title: "input gate", formula: gateFormula(layer, "input", "i"), value: i});
  const forget = facts.forgetGate === "none" ? "1, for there is no forget gate" : facts.forgetGate === "coupled" ? "1 − i" : gateFormula(layer, "forget", "f");
  lines.push({symbol: "f", title: "forget gate", formula: forget, value: f});
  lines.push({symbol: "g", title: "candidate", formula: gateFormula(layer, "candidate", "g"), value: g});
  lines.push({symbol: "o", title: "output gate", formula: gateFormula(layer, "output", "o"), value: o});
  const z = facts.zoneoutCell, clip = facts.cellClip === null ? "" : `, cut off at ±${facts.cellClip}`;
  const update = `${shown(f)} × ${shown(cPrev)} + ${shown(i)} × ${shown(g)}`;
  lines.push({
    symbol: "c", title: "cell",
    formula: (z ? "z c_prev + (1 − z) (f × c_prev + i × g)" : "f × c_prev + i × g") + clip,
    numbers: `= ${z ? `${shown(z)} × ${shown(cPrev)} + ${shown(1 - z)} × (${update})` : update}`, value: c, cPrev,
  });
  const squash = facts.layerNorm ? `${facts.activations.cell}(N(c))` : `${facts.activations.cell}(c)`;
  const computed = facts.activations.cell === "tanh" && !facts.layerNorm, numbers = `${shown(o)} × tanh(${shown(c)})`;
  if (facts.projects) {
    lines.push({symbol: "h", title: "output", formula: `W_h m, where m = o × ${squash}`, value: null,
      numbers: computed ? `m of unit ${unit} = ${numbers} = ${shown(o * Math.tanh(c))}` : null});
  } else {
    const z = facts.zoneoutHidden;
    lines.push({symbol: "h", title: "output", formula: z ? `z h_prev + (1 − z) o × ${squash}, z = ${z}` : `o × ${squash}`,
      numbers: computed && !z ? `= ${numbers}` : null, value: at("hidden")});
  }
  return lines;
}

function showStep(layer, place, labels, tracks) {
  const {step, unit} = place;
  document.getElementById("step-title").textContent = `Step ${step}, unit ${unit}`;
  const about = document.getElementById("step-labels");
  about.replaceChildren();
  if (labels[step]) about.append(label(labels[step]));
  for (const track of tracks) {
    if (track.steps[step] >= 0) about.append(element("span", {class: "track"}, `${readable(track.name)}: ${readable(track.labels[track.steps[step]])}`));
  }
  if (layer.resets.has(step)) about.append(element("span", {class: "track"}, "the state is reset before this step"));
  if (place.output !== undefined && place.output !== null) {
    about.append(element("span", {class: "track"}, `projected output ${place.output}: ${shown(layer.at("hidden", place.output, step))}`));
  }
  const target = document.getElementById("equations");
  if (layer.skips.has(step)) {
    target.replaceChildren(element("p", {}, `This step was left out: the state is carried through. c = c`, element("sub", {}, "prev"),
      ` = ${shown(layer.at("cell", unit, step))}`));
    return;
  }
  target.replaceChildren(...equationLines(layer, unit, step).map((line) => element("div", {class: "equation", "data-symbol": line.symbol},
    element("b", {}, line.symbol), element("span", {class: "title"}, line.title),
    element("span", {class: "line"}, formula(line.formula), ...(line.numbers ? [element("br", {}), line.numbers] : [])),
    element("span", {class: "value"}, line.value === null ? "" : shown(line.value)))));
}

// What the live region says of a place.
function spoken(layer, place, labels) {
  const {step, unit} = place, text = labels[step] ? `, ${readable(labels[step])}` : "";
  if (layer.skips.has(step)) return `step ${step}${text}, left out; cell ${shown(layer.at("cell", unit, step))}`;
  const values = MAPS.filter((map) => !(map.name === "hidden" && layer.facts.projects))
    .map((map) => `${map.title} ${shown(layer.at(map.name, unit, step))}`);
  return `step ${step}${text}, unit ${unit}: ${values.join(", ")}`;
}

function showMemory(layer, memory, labels, goTo) {
  const {unit, step, written, cut, kept, start, cell} = memory, terms = [];
  for (let k = 0; k < layer.steps; k++) if (written[k] || cut[k]) terms.push({step: k, term: written[k], cut: cut[k]});
  const count = terms.length, sum = terms.reduce((total, each) => total + each.term + each.cut, start);
  const summary = document.getElementById("memory-summary");
  summary.replaceChildren(`At step ${step} the cell of unit ${unit} holds ${shown(cell)}. `);
  if (!memory.exact) {
    summary.append(`The terms below add up to ${shown(sum)}: some number in the sum is infinite, too large, or not a number.`);
  } else {
    const clipped = terms.reduce((total, each) => total + each.cut, 0);
    summary.append(`${plural(count, "step")} wrote ${shown(sum - start - clipped)} of it, the start state ${shown(start)}` +
      `${layer.facts.cellClip === null ? "" : `, and ${shown(clipped)} is what the clip cut off`}. `);
    summary.append(element("span", {class: "quiet"}, memory.adjusted > 0 ? `Rounding of the stored numbers: each term was changed by ${percent(memory.adjusted)} of itself.` : ""));
  }
  terms.sort((a, b) => Math.abs(b.term + b.cut) - Math.abs(a.term + a.cut) || a.step - b.step);
  const most = Math.abs(start) > 0 || terms.length ? Math.max(Math.abs(start), ...terms.slice(0, 1).map((each) => Math.abs(each.term + each.cut))) : 1;
  const row = (head, text, value, wrote, keptSince) => element("tr", {},
    element("th", {scope: "row"}, head), element("td", {}, text),
    element("td", {class: "bar"}, bar(value / most), element("span", {}, shown(value))), element("td", {}, wrote), element("td", {}, keptSince));
  const rows = terms.slice(0, MOST_WRITERS).map((each) => row(
    element("button", {type: "button", class: "link", onclick: () => goTo(each.step), "aria-label": `go to step ${each.step}`}, String(each.step)),
    label(labels[each.step], 12), each.term + each.cut,
    shown(layer.at("input_gate", unit, each.step) * layer.at("candidate", unit, each.step)), percent(kept[each.step])));
  if (start) rows.push(row("start", "", start, shown(layer.startOf(unit, memory.first)), percent(memory.startKept)));
  const others = terms.slice(MOST_WRITERS).reduce((total, each) => total + each.term + each.cut, 0);
  if (terms.length > MOST_WRITERS) rows.push(row(`${grouped(terms.length - MOST_WRITERS)} more`, "", others, "", ""));
  document.querySelector("#writers tbody").replaceChildren(...rows);
  document.getElementById("writers").hidden = !rows.length;
}

function bar(share) {
  const picture = document.createElement("i");
  picture.className = share < 0 ? "negative" : "positive";
  picture.setAttribute("aria-hidden", "true");
  picture.style.width = `${Math.min(100, Math.max(Math.abs(share) > 0 ? 2 : 0, 100 * Math.abs(share)))}%`;
  return element("span", {class: "track-of-bar"}, picture);
}

function showUnitsOn(on, range, threshold, watched, goToUnit) {
  const steps = range.to > range.from ? `steps ${range.from} to ${range.to}` : `step ${range.from}`;
  const sign = `${watched} ≥ ${threshold} or ≤ −${threshold}`;
  document.getElementById("range-summary").textContent = on.length
    ? `${plural(on.length, "unit")} on throughout ${steps} (${sign}):`
    : `No unit is on throughout ${steps} (${sign}). Lower the threshold or choose fewer steps.`;
  document.getElementById("units-on").replaceChildren(...on.map(({unit, sign: side}) => element("button",
    {type: "button", class: side > 0 ? "chip positive" : "chip negative", onclick: () => goToUnit(unit), "data-unit": unit,
      title: side > 0 ? "above zero" : "below zero", "aria-label": `unit ${unit}, ${side > 0 ? "above" : "below"} zero`},
    `${side > 0 ? "+" : "−"} ${unit}`)));
  for (const id of ["keep-units", "places-title"]) document.getElementById(id).hidden = !on.length;
}

// `groups`: where places were looked for, and what was found there.
function showPlaces(groups, units, range) {
  const list = document.getElementById("places"), items = [];
  for (const {name, places, labels, goTo} of groups) {
    for (const place of places) items.push({name, place, labels, goTo});
  }
  items.sort((a, b) => b.place.count - a.place.count || unlike(a.place, range) - unlike(b.place, range));
  const where = groups.map((group) => group.name).join(" and ");
  document.getElementById("places-summary").textContent = !units ? "" : items.length
    ? `${groups.some((group) => group.places.length === MOST_PLACES) ? `${items.length} of the places` : plural(items.length, "place")} in ${where} where at least half of them are on: most units first, then those of about the same length.`
    : `There is no other place in ${where} where at least half of them are on.`;
  list.replaceChildren(...items.map(({name, place, labels, goTo}) => {
    const steps = place.to > place.from ? `steps ${place.from - place.begin}–${place.to - place.begin}` : `step ${place.from - place.begin}`;
    const head = `${place.count} of ${units}, ${name}, ${steps}`;
    return element("li", {"data-from": place.from, "data-to": place.to, "data-count": place.count},
      goTo ? element("button", {type: "button", class: "link", onclick: () => goTo(place)}, head) : element("span", {class: "quiet"}, head),
      element("span", {class: "context"}, ...around(labels, place)));
  }));
}

// The labels of a stretch of steps, marked, with some of those before and after it.
function around(labels, place) {
  // Characters are written as a text, words with spaces between them.
  const longer = labels.reduce((count, each) => count + ([...each].length > 1 ? 1 : 0), 0);
  const separator = longer > 0.2 * labels.length ? " " : "", room = separator ? 6 : 24;
  const text = (from, to) => {
    const long = to - from > 60 ? [...labels.slice(from, from + 30), "…", ...labels.slice(to - 30, to)] : labels.slice(from, to);
    return long.map(readable).join(separator);
  };
  const before = text(Math.max(place.begin, place.from - room), place.from), after = text(place.to + 1, Math.min(place.end, place.to + 1 + room));
  return [element("bdi", {}, before), separator, element("mark", {}, element("bdi", {}, text(place.from, place.to + 1))), separator, element("bdi", {}, after)];
}
