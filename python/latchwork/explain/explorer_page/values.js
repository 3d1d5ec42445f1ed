// Reads what page_codes.py and page_corpus.py wrote.

const NAMES = ["input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden"];
const LOGIT = 17, SHARE_STEPS = 65532, RANGE = 16, SIGNED_STEPS = 32765;

async function unpacked(id) {
  const text = atob(document.getElementById(id).textContent);
  const octets = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) octets[k] = text.charCodeAt(k);
  const stream = new Blob([octets]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function shareTable() {
  const table = new Float64Array(65536);
  for (let code = 2; code < 65535; code++) {
    table[code] = 1 / (1 + Math.exp(LOGIT - (code - 2) * (2 * LOGIT / SHARE_STEPS)));
  }
  table[0] = NaN;
  table[1] = 0;
  table[65535] = 1;
  return table;
}

function signedTable() {
  const table = new Float64Array(65536);
  for (let code = 2; code < 65535; code++) {
    const level = Math.abs(code - 32768) - 1;
    table[code] = Math.sign(code - 32768) * Math.exp(RANGE * (level / SIGNED_STEPS - 1));
  }
  table[0] = NaN;
  table[1] = -Infinity;
  table[65535] = Infinity;
  return table;
}

// A number of a start state: JSON has no NaN and no infinity.
function number(value) {
  return typeof value === "number" ? value : {nan: NaN, inf: Infinity, "-inf": -Infinity}[value];
}

// One layer and direction of one sequence. Values lie unit by unit: signals[name][unit * steps + step].
class LayerValues {
  constructor(facts, sequence, ofLayer, octets) {
    this.facts = facts;
    this.steps = sequence.steps;
    this.units = facts.units;
    this.sequence = sequence;
    this.similar = ofLayer.similar;
    this.start = ofLayer.start.map(number);
    this.restart = ofLayer.restart.map(number);
    this.resets = new Set(sequence.resets);
    this.skips = new Set(sequence.skips);
    this.signals = {};
    this._decode(octets, ofLayer.signals, ofLayer.scaled);
    if (!this.signals.hidden) this._computeHidden();
    this.bounds = {};
    for (const name of NAMES) this.bounds[name] = this._bounds(name);
  }

  count(name) {
    return name === "hidden" ? this.facts.outputs : this.units;
  }

  _decode(octets, names, scaled) {
    const {steps} = this, tables = {share: shareTable(), signed: signedTable()};
    let scalesAt = 0;
    for (const name of names) scalesAt += 2 * steps * this.count(name);
    let at = 0;
    names.forEach((name, place) => {
      const count = this.count(name), size = steps * count, values = new Float32Array(size);
      let scales = null;
      if (scaled[place]) {
        scales = new Float64Array(octets.slice(scalesAt, scalesAt + 8 * count).buffer);
        scalesAt += 8 * count;
      }
      const table = scales ? tables.signed : tables.share;
      for (let unit = 0; unit < count; unit++) {
        const scale = scales ? scales[unit] : 1, first = at + unit * steps;
        let code = 0;
        for (let step = 0; step < steps; step++) {
          code = (code + 256 * octets[first + step] + octets[first + size + step]) & 65535;
          values[unit * steps + step] = scale * table[code];
        }
      }
      at += 2 * size;
      this.signals[name] = values;
    });
  }

  _computeHidden() {
    const {output_gate: o, cell: c} = this.signals, hidden = new Float32Array(c.length);
    for (let k = 0; k < hidden.length; k++) hidden[k] = o[k] * Math.tanh(c[k]);
    this.signals.hidden = hidden;
  }

  // 1 if the layer runs from the first step to the last, -1 if from the last to the first.
  get direction() {
    return this.facts.reverse ? -1 : 1;
  }

  // Whether the state before this step, in the direction in which the layer runs, is a start state.
  beginsAt(step) {
    if (step === (this.facts.reverse ? this.steps - 1 : 0)) return true;
    return this.resets.has(this.facts.reverse ? step + 1 : step);
  }

  startOf(unit, step) {
    const reset = this.resets.has(this.facts.reverse ? step + 1 : step);
    return reset ? this.restart[unit] : this.start[unit];
  }

  at(name, unit, step) {
    return this.signals[name][unit * this.steps + step];
  }

  cPrev(unit, step) {
    return this.beginsAt(step) ? this.startOf(unit, step) : this.at("cell", unit, step - this.direction);
  }

  // The values that get the strongest colours: 0 and 1 for gates, else -most and most.
  _bounds(name) {
    const values = this.signals[name], gate = name.endsWith("_gate");
    const sizes = [], stride = Math.max(1, Math.floor(values.length / 50000));
    let least = 0, most = 0;
    for (let k = 0; k < values.length; k++) {
      if (!Number.isFinite(values[k])) continue;
      if (values[k] < least) least = values[k];
      if (values[k] > most) most = values[k];
      if (k % stride === 0) sizes.push(Math.abs(values[k]));
    }
    if (gate && least >= 0 && most <= 1) return {low: 0, high: 1, cut: false};
    const size = Math.max(-least, most);
    if (size <= 1 && name !== "cell") return {low: -1, high: 1, cut: false};
    // A few very large cells must not leave all others without colour.
    sizes.sort((a, b) => a - b);
    const usual = sizes[Math.floor(0.99 * (sizes.length - 1))];
    const bound = usual > 0 && usual < 0.8 * size ? usual : size || 1;
    return {low: -bound, high: bound, cut: bound < size};
  }

  // The mean |h| (or, of projected layers, |c|) of each unit.
  activity() {
    if (!this._activity) {
      const values = this.signals[this.watched];
      this._activity = new Float64Array(this.units);
      for (let unit = 0; unit < this.units; unit++) {
        let sum = 0;
        for (let k = unit * this.steps; k < (unit + 1) * this.steps; k++) sum += Math.abs(values[k]) || 0;
        this._activity[unit] = sum / this.steps;
      }
    }
    return this._activity;
  }

  // The signal by which a unit is on.
  get watched() {
    return this.facts.projects ? "cell" : "hidden";
  }
}

// For each layer and unit of a corpus how many thresholds it reaches at each step, above or below zero.
class Corpus {
  constructor(octets, layers) {
    const size = Number(new DataView(octets.buffer).getBigUint64(0, true));
    const texts = JSON.parse(new TextDecoder().decode(octets.subarray(8, 8 + size)));
    this.tokens = texts.tokens;
    this.ends = texts.ends;
    this.steps = this.tokens.length;
    this._octets = octets;
    this._width = (this.steps + 1) >> 1;
    let at = 8 + size;
    this._starts = layers.map((layer) => {
      const start = at;
      at += this._width * layer.units;
      return start;
    });
  }

  level(layer, unit, step) {
    const pair = this._octets[this._starts[layer] + unit * this._width + (step >> 1)];
    return (step & 1 ? pair >> 4 : pair & 15) - 8;
  }
}
