// The pictures: heat maps, labels of steps, annotation tracks, and the bars that say who wrote a cell. Only what is visible
// is drawn, on one canvas as large as the view; marks that move with the mouse are on a second one above it.

const MAPS = [
  {name: "input_gate", symbol: "i", title: "input gate", low: "lets nothing in", high: "lets all in"},
  {name: "forget_gate", symbol: "f", title: "forget gate", low: "forgets", high: "keeps"},
  {name: "candidate", symbol: "g", title: "candidate"},
  {name: "output_gate", symbol: "o", title: "output gate", low: "hides", high: "shows"},
  {name: "cell", symbol: "c", title: "cell"},
  {name: "hidden", symbol: "h", title: "output"},
];
const GUTTER = 46, TITLE = 17, GAP = 5, TRACK = 17, BARS = 74, NUMBERS = 15;

class Maps {
  constructor(view) {
    this.view = view;
    this.sizer = document.getElementById("sizer");
    this.picture = document.getElementById("picture");
    this.marks = document.getElementById("marks");
    this.stepWidth = 14;
    this.unitHeight = null; // null: all units fit
    this.names = MAPS.map((map) => map.name);
  }

  setTheme(theme) {
    this.theme = theme;
    this.palettes = palettes(theme);
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    this.colours = {text: value("--text"), quiet: value("--quiet"), line: value("--line"), mark: value("--mark"),
      ground: value("--ground"), positive: value("--positive"), negative: value("--negative")};
  }

  // Shows a layer. `order`: its units from top to bottom; `tracks`, `labels`: of the sequence.
  show(layer, order, labels, tracks) {
    if (layer !== this.layer) this._labelWidths = null;
    Object.assign(this, {layer, order, labels, tracks});
    this.resize();
  }

  // Gives the canvases the size of the view, and shares the height out.
  resize() {
    this._drawn = null; // a canvas that gets a size is empty
    const {view, layer} = this, width = view.clientWidth, height = view.clientHeight;
    this.scale = window.devicePixelRatio || 1;
    for (const canvas of [this.picture, this.marks]) {
      canvas.width = Math.round(width * this.scale);
      canvas.height = Math.round(height * this.scale);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    document.getElementById("canvases").style.width = `${width}px`;
    document.getElementById("canvases").style.height = `${height}px`;
    this.width = width;
    this.mapWidth = width - GUTTER;
    this._measureLabels();
    const bottom = TITLE + BARS + this.tracks.length * TRACK + 4;
    const free = height - this.axis - bottom - this.names.length * (TITLE + GAP);
    this.mapHeight = Math.max(12, Math.floor(free / this.names.length));
    let y = this.axis;
    this.rects = MAPS.filter((map) => this.names.includes(map.name)).map((map) => {
      const rect = {...map, y: y + TITLE, height: this.mapHeight};
      y += TITLE + this.mapHeight + GAP;
      return rect;
    });
    this.tracksY = y;
    this.barsY = y + this.tracks.length * TRACK + TITLE;
    this.rows = Math.max(1, this.order.length);
    this.fitHeight = this.mapHeight / this.rows;
    const overflow = Math.max(0, this.rows * this.rowHeight - this.mapHeight);
    this.sizer.style.width = `${Math.max(width, Math.ceil(GUTTER + layer.steps * this.stepWidth))}px`;
    this.sizer.style.height = `${height + Math.ceil(overflow - 1e-6)}px`;
  }

  get rowHeight() {
    return this.unitHeight === null ? Math.min(this.fitHeight, 40) : this.unitHeight;
  }

  _measureLabels() {
    const context = this.picture.getContext("2d");
    if (!this._labelWidths) {
      context.font = this._font(11);
      this._texts = this.labels.map(readable);
      this._labelWidths = this._texts.map((text) => (text.length > 40 ? 200 : context.measureText(text).width));
    }
    const widest = this._labelWidths.reduce((a, b) => Math.max(a, b), 0);
    // A label lies flat if it fits above its step, else it stands, if steps are wide enough for a line of text.
    const stand = widest > this.stepWidth, none = widest === 0 || this.stepWidth < (stand ? 11 : 7);
    this.labelRoom = none ? 0 : stand ? Math.round(Math.min(widest, 84)) + 6 : 15;
    this.axis = NUMBERS + this.labelRoom + 2;
  }

  _font(size, weight = "") {
    return `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  }

  xOf(step) {
    return GUTTER + step * this.stepWidth - this.view.scrollLeft;
  }

  stepAt(x) {
    const step = Math.floor((x - GUTTER + this.view.scrollLeft) / this.stepWidth);
    return x < GUTTER || step < 0 || step >= this.layer.steps ? null : step;
  }

  // What lies under a point of the view.
  hit(x, y) {
    const step = this.stepAt(x);
    if (step === null) return null;
    for (const rect of this.rects) {
      if (y < rect.y || y >= rect.y + rect.height) continue;
      const row = Math.floor((y - rect.y + this.view.scrollTop) / this.rowHeight);
      if (rect.name === "hidden" && this.layer.facts.projects) {
        return {step, unit: null, output: this._outputAt(y - rect.y), name: rect.name};
      }
      return {step, unit: row < this.order.length ? this.order[row] : null, name: rect.name};
    }
    return {step, unit: null, name: null};
  }

  // Projected outputs belong to no unit: all of them fill the height of their map.
  _outputAt(y) {
    return Math.min(this.layer.facts.outputs - 1, Math.floor(y / this.mapHeight * this.layer.facts.outputs));
  }

  // Scrolls as little as needed to show a step and a unit.
  reveal(step, unit) {
    const {view} = this, x = step * this.stepWidth;
    if (x < view.scrollLeft) view.scrollLeft = x - 2 * this.stepWidth;
    else if (x + this.stepWidth > view.scrollLeft + this.mapWidth) {
      view.scrollLeft = x + 3 * this.stepWidth - this.mapWidth;
    }
    const row = this.order.indexOf(unit);
    if (row < 0) return;
    const y = row * this.rowHeight;
    if (y < view.scrollTop) view.scrollTop = y;
    else if (y + this.rowHeight > view.scrollTop + this.mapHeight) view.scrollTop = y + this.rowHeight - this.mapHeight;
  }

  // The maps are drawn anew only if what they show has changed, the bars each time.
  draw(memory) {
    const context = this.picture.getContext("2d"), {scale, view} = this;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const drawn = [this.layer, this.order, this.theme, this.stepWidth, view.scrollLeft, view.scrollTop];
    if (!this._drawn || drawn.some((each, place) => each !== this._drawn[place])) this._drawMaps(context);
    this._drawn = drawn;
    context.fillStyle = this.colours.ground;
    context.fillRect(0, this.barsY - TITLE, this.width, view.clientHeight);
    this._drawBars(context, memory);
  }

  _drawMaps(context) {
    context.fillStyle = this.colours.ground;
    context.fillRect(0, 0, this.width, this.view.clientHeight);
    this.firstStep = Math.max(0, Math.floor(this.view.scrollLeft / this.stepWidth));
    this.lastStep = Math.min(this.layer.steps - 1, Math.floor((this.view.scrollLeft + this.mapWidth) / this.stepWidth));
    this._drawAxis(context);
    for (const rect of this.rects) this._drawMap(context, rect);
    this._drawTracks(context);
  }

  _drawAxis(context) {
    context.textBaseline = "middle";
    context.font = this._font(11);
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1e6]
      .find((each) => each * this.stepWidth >= 12 + 7 * String(this.layer.steps).length);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, this.mapWidth, this.axis);
    context.clip();
    context.fillStyle = this.colours.quiet;
    context.textAlign = "center";
    for (let step = Math.ceil(this.firstStep / every) * every; step <= this.lastStep; step += every) {
      const text = String(step), middle = this.xOf(step) + this.stepWidth / 2;
      const half = context.measureText(text).width / 2;
      if (middle + half > this.width && step > this.firstStep) break; // rather no number than a part of it
      context.fillText(text, Math.max(middle, GUTTER + 1 + half), NUMBERS / 2 + 1);
    }
    if (this.labelRoom) {
      context.fillStyle = this.colours.text;
      for (let step = this.firstStep; step <= this.lastStep; step++) this._drawLabel(context, step);
    }
    context.restore();
    context.fillStyle = this.colours.quiet;
    context.textAlign = "right";
    context.fillText("step", GUTTER - 5, NUMBERS / 2 + 1);
  }

  _drawLabel(context, step) {
    const text = this._texts[step], x = this.xOf(step) + this.stepWidth / 2, bottom = this.axis - 3;
    if (!text) return;
    if (this._labelWidths[step] <= this.stepWidth - (text.length > 1 ? 3 : 0)) {
      context.fillText(text, x, bottom - 6);
      return;
    }
    context.save();
    context.translate(x, bottom);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillText(this._cut(context, text, this._labelWidths[step], this.labelRoom - 4), 0, 0);
    context.restore();
  }

  _cut(context, text, width, room) {
    if (width <= room) return text;
    let length = Math.min([...text].length, 60);
    while (length > 3 && context.measureText(shortened(text, length)).width > room) length--;
    return shortened(text, length);
  }

  _drawMap(context, rect) {
    const {layer, colours} = this, {name} = rect, bounds = layer.bounds[name], signed = bounds.low < 0;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const middle = rect.y - TITLE / 2;
    context.font = this._font(12, "600");
    context.fillStyle = colours.text;
    context.fillText(`${rect.symbol}  ${rect.title}`, GUTTER, middle);
    const end = GUTTER + context.measureText(`${rect.symbol}  ${rect.title}`).width + 12;
    this._drawLegend(context, rect, bounds, signed, end, middle);
    const x = Math.round(GUTTER * this.scale), y = Math.round(rect.y * this.scale);
    const image = this._image(rect, bounds, signed);
    if (image) context.putImageData(image, x, y);
    this._drawSkipsAndResets(context, rect);
    this._drawUnitNumbers(context, rect);
  }

  _drawLegend(context, rect, bounds, signed, x, middle) {
    const cut = bounds.cut ? " and less" : "", more = bounds.cut ? " and more" : "";
    const low = signed ? `${shown(bounds.low)}${cut}` : `0 ${rect.low}`, high = signed ? `${shown(bounds.high)}${more}` : `1 ${rect.high}`;
    context.font = this._font(11);
    context.fillStyle = this.colours.quiet;
    const bar = 46, lowWidth = context.measureText(low).width;
    if (x + lowWidth + bar + 14 + context.measureText(high).width > this.width) return;
    context.fillText(low, x, middle);
    const left = x + lowWidth + 5, gradient = context.createLinearGradient(left, 0, left + bar, 0);
    const stops = gradientStops(this.theme, signed);
    stops.forEach((colour, k) => gradient.addColorStop(k / (stops.length - 1), colour));
    context.fillStyle = gradient;
    context.fillRect(left, middle - 4, bar, 8);
    context.strokeStyle = this.colours.line;
    context.lineWidth = 1;
    context.strokeRect(left - 0.5, middle - 4.5, bar + 1, 9);
    context.fillStyle = this.colours.quiet;
    context.fillText(high, left + bar + 5, middle);
  }

  // The pixels of the visible part of a map.
  _image(rect, bounds, signed) {
    const {layer, scale} = this, {steps} = layer, values = layer.signals[rect.name];
    const projected = rect.name === "hidden" && layer.facts.projects;
    const rowHeight = projected ? this.mapHeight / layer.facts.outputs : this.rowHeight;
    const rows = projected ? layer.facts.outputs : this.order.length, top = projected ? 0 : this.view.scrollTop;
    const height = Math.round(Math.min(rect.height, rows * rowHeight - top) * scale);
    const width = Math.round(Math.min(this.mapWidth, steps * this.stepWidth - this.view.scrollLeft) * scale);
    if (height < 1 || width < 1) return null;
    const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const colours = signed ? this.palettes.signed : this.palettes.gate;
    const {low} = bounds, factor = 255.999 / (bounds.high - bounds.low);
    const columns = spans(width, this.view.scrollLeft / this.stepWidth, 1 / (this.stepWidth * scale), steps);
    const lines = spans(height, top / rowHeight, 1 / (rowHeight * scale), rows);
    const count = columns.from.length, sums = new Float64Array(count), shades = new Uint32Array(count);
    // Step by step in the order in which they lie in memory, which is what takes the time if all are visible.
    const first = columns.from[0], columnOf = new Uint32Array(columns.to[count - 1] - first + 1);
    for (let column = 0; column < count; column++) columnOf.fill(column, columns.from[column] - first, columns.to[column] - first + 1);
    let shadesOf = -1;
    for (let y = 0; y < height; y++) {
      const line = lines.of[y], at = y * width;
      if (line === shadesOf) {
        pixels.copyWithin(at, at - width, at);
        continue;
      }
      shadesOf = line;
      sums.fill(0);
      for (let row = lines.from[line]; row <= lines.to[line]; row++) {
        const start = (projected ? row : this.order[row]) * steps + first;
        for (let k = 0; k < columnOf.length; k++) sums[columnOf[k]] += values[start + k];
      }
      const high = lines.to[line] - lines.from[line] + 1;
      for (let column = 0; column < count; column++) {
        const mean = sums[column] / (high * (columns.to[column] - columns.from[column] + 1)), place = (mean - low) * factor;
        shades[column] = colours[Number.isFinite(mean) ? (place < 0 ? 0 : place > 255 ? 255 : place | 0) : 256];
      }
      for (let x = 0; x < width; x++) pixels[at + x] = shades[columns.of[x]];
    }
    return image;
  }

  _drawSkipsAndResets(context, rect) {
    const {layer} = this;
    context.fillStyle = this.colours.quiet;
    for (let step = this.firstStep; step <= this.lastStep; step++) {
      const x = this.xOf(step);
      if (layer.skips.has(step)) {
        for (let y = rect.y; y < rect.y + rect.height; y += 4) context.fillRect(Math.max(x, GUTTER), y, Math.max(1, this.stepWidth), 1);
      }
      if (layer.resets.has(step) && x >= GUTTER) {
        for (let y = rect.y; y < rect.y + rect.height; y += 6) context.fillRect(x - 1, y, 2, 3);
      }
    }
  }

  _drawUnitNumbers(context, rect) {
    const projected = rect.name === "hidden" && this.layer.facts.projects;
    const rowHeight = projected ? this.mapHeight / this.layer.facts.outputs : this.rowHeight;
    const rows = projected ? this.layer.facts.outputs : this.order.length, top = projected ? 0 : this.view.scrollTop;
    context.font = this._font(10);
    context.fillStyle = this.colours.quiet;
    context.textAlign = "right";
    const every = Math.max(1, Math.ceil(12 / rowHeight));
    for (let row = Math.ceil(top / rowHeight / every) * every; row < rows; row += every) {
      const y = rect.y + (row + 0.5) * rowHeight - top;
      if (y > rect.y + rect.height - 2) break;
      if (y < rect.y) continue;
      context.fillText(String(projected ? row : this.order[row]), GUTTER - 5, Math.max(y, rect.y + 5));
    }
  }

  _drawTracks(context) {
    this.tracks.forEach((track, place) => {
      const y = this.tracksY + place * TRACK;
      context.font = this._font(10);
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.save();
      context.beginPath();
      context.rect(GUTTER, y, this.mapWidth, TRACK);
      context.clip();
      for (let step = this.firstStep; step <= this.lastStep; step++) {
        const label = track.steps[step];
        if (label < 0) continue;
        // One box for all neighbouring steps that have the same label; it may begin and end outside the view.
        let from = step, to = step;
        while (from > 0 && track.steps[from - 1] === label) from--;
        while (to + 1 < this.layer.steps && track.steps[to + 1] === label) to++;
        const left = Math.max(this.xOf(from), GUTTER), right = Math.min(this.xOf(to + 1), this.width);
        context.fillStyle = LABEL_COLOURS[label % LABEL_COLOURS.length];
        context.fillRect(left, y + 1, Math.max(1, right - left - 1), TRACK - 3);
        const text = readable(track.labels[label]), room = right - left - 6;
        if (room > 8) {
          context.fillStyle = label % LABEL_COLOURS.length === 6 ? "#ffffff" : "#000000";
          context.fillText(this._cut(context, text, context.measureText(text).width, room), left + 3, y + TRACK / 2);
        }
        step = to;
      }
      context.restore();
      context.fillStyle = this.colours.quiet;
      context.textAlign = "right";
      const name = readable(track.name);
      context.fillText(this._cut(context, name, context.measureText(name).width, GUTTER - 6), GUTTER - 5, y + TRACK / 2);
    });
  }

  _drawBars(context, memory) {
    const top = this.barsY, {colours} = this, bottom = top + BARS - 6;
    context.font = this._font(12, "600");
    context.fillStyle = colours.text;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const title = `Who wrote c of unit ${memory.unit}, step ${memory.step}`;
    context.fillText(title, GUTTER, top - TITLE / 2);
    let low = Math.min(0, memory.start), high = Math.max(0, memory.start);
    for (let k = 0; k < this.layer.steps; k++) {
      const term = memory.written[k] + memory.cut[k];
      if (term < low) low = term;
      if (term > high) high = term;
    }
    const size = high - low;
    const yOf = (value) => (size > 0 ? top + 4 + (high - value) / size * (bottom - top - 8) : (top + bottom) / 2);
    const zero = yOf(0);
    context.fillStyle = colours.line;
    context.fillRect(GUTTER, Math.round(zero), this.mapWidth, 1);
    context.save();
    context.beginPath();
    context.rect(GUTTER, top, this.mapWidth, BARS);
    context.clip();
    for (let step = this.firstStep; step <= this.lastStep; step++) {
      const term = memory.written[step] + memory.cut[step];
      if (!term) continue;
      const y = yOf(term), height = Math.max(1, Math.abs(y - zero));
      context.fillStyle = term > 0 ? colours.positive : colours.negative;
      context.fillRect(this.xOf(step), Math.min(y, zero), Math.max(1, this.stepWidth > 3 ? this.stepWidth - 1 : this.stepWidth), height);
    }
    context.restore();
    context.font = this._font(10);
    context.fillStyle = colours.quiet;
    context.textAlign = "right";
    if (high > 0.04 * size) context.fillText(shown(high), GUTTER - 4, yOf(high) + 3);
    if (low < -0.04 * size) context.fillText(shown(low), GUTTER - 4, yOf(low) - 2);
    if (Math.abs(yOf(high) - zero) > 16 && Math.abs(yOf(low) - zero) > 16) context.fillText("0", GUTTER - 4, zero);
    else if (!size) context.fillText("0", GUTTER - 4, zero);
  }

  // The chosen step and unit, the range, and what the mouse points at.
  drawMarks(cursor, range, hover) {
    const context = this.marks.getContext("2d"), {scale, colours} = this;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, this.view.clientHeight);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, this.mapWidth, this.view.clientHeight);
    context.clip();
    if (range && range.to > range.from) {
      const left = this.xOf(range.from), right = this.xOf(range.to + 1);
      // The colours of the maps stay as they are: only the axis and the bars are shaded.
      context.fillStyle = colours.mark;
      context.globalAlpha = 0.16;
      context.fillRect(left, NUMBERS, right - left, this.axis - NUMBERS);
      context.fillRect(left, this.barsY, right - left, BARS - 2);
      context.globalAlpha = 1;
      context.fillRect(left, NUMBERS, right - left, 3);
      for (const [top, bottom] of this._columns()) {
        context.fillRect(left - 1, top, 1, bottom - top);
        context.fillRect(right, top, 1, bottom - top);
      }
    }
    if (hover) this._drawCross(context, hover, 1, true);
    this._drawCross(context, cursor, 2, false);
    context.restore();
  }

  // From where to where marks of a step are drawn: everywhere but over the titles.
  _columns() {
    const columns = [[NUMBERS, this.axis - 1], ...this.rects.map((rect) => [rect.y, rect.y + rect.height])];
    if (this.tracks.length) columns.push([this.tracksY, this.tracksY + this.tracks.length * TRACK - 1]);
    return [...columns, [this.barsY, this.barsY + BARS - 2]];
  }

  _drawCross(context, place, width, dashed) {
    const x = this.xOf(place.step), wide = Math.max(2, this.stepWidth), row = this.order.indexOf(place.unit);
    context.strokeStyle = this.colours.mark;
    context.lineWidth = width;
    context.setLineDash(dashed ? [3, 3] : []);
    for (const [top, bottom] of this._columns()) context.strokeRect(x - width / 2, top + 0.5, wide + width - 1, bottom - top - 1);
    if (row < 0) return;
    for (const rect of this.rects) {
      if (rect.name === "hidden" && this.layer.facts.projects) continue;
      const y = rect.y + row * this.rowHeight - this.view.scrollTop, high = Math.max(3, this.rowHeight);
      if (y + high < rect.y || y > rect.y + rect.height) continue;
      context.save();
      context.beginPath();
      context.rect(GUTTER, rect.y - 1, Math.min(this.mapWidth, this.xOf(this.layer.steps) - GUTTER + 2), rect.height + 2);
      context.clip();
      context.strokeRect(x - width / 2, y - width / 2, wide + width - 1, high + width - 1);
      context.globalAlpha = 0.5;
      context.lineWidth = 1;
      context.strokeRect(GUTTER - 4, y - 0.5, this.mapWidth + 8, high + 0.5);
      context.restore();
    }
  }
}

// What `count` pixels show: pixel 0 begins at item `start`, and each is `size` items. Gives the first and the last item of
// each stretch of items that pixels show alike, and for each pixel which stretch it shows.
function spans(count, start, size, items) {
  const from = [], to = [], of = new Int32Array(count);
  for (let pixel = 0; pixel < count; pixel++) {
    const first = Math.min(items - 1, Math.floor(start + pixel * size + 1e-9));
    const last = size > 1 ? Math.min(items - 1, Math.max(first, Math.floor(start + (pixel + 1) * size + 1e-9) - 1)) : first;
    if (!from.length || from[from.length - 1] !== first) {
      from.push(first);
      to.push(last);
    }
    of[pixel] = from.length - 1;
  }
  return {from: Int32Array.from(from), to: Int32Array.from(to), of};
}
