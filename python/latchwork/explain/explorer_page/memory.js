// Which steps wrote what a cell holds.

// c_t = sum over k of i_k g_k times the product of the forget gates after k, plus the start state times all of them. With
// zoneout f is z + (1 - z) f, and i g is (1 - z) i g; what cell_clip cut off at a step is a term of its own.
//
// The stored gates and cells are rounded, so the sum misses the stored cell by a little. That rest is shared out among the
// terms in proportion to their sizes, and `adjusted` says by which share of itself each term was changed. If it is more
// than 1 %, no rounding explains it: the terms stay as they are, and `exact` is false.
function memoryTerms(layer, unit, step) {
  const {facts, steps} = layer, zoneout = facts.zoneoutCell, clip = facts.cellClip === null ? Infinity : facts.cellClip;
  const written = new Float64Array(steps), cut = new Float64Array(steps), kept = new Float64Array(steps);
  let product = 1, size = 0, sum = 0, start = 0, first = step;
  for (let k = step; ; k -= layer.direction) {
    first = k;
    if (!layer.skips.has(k)) {
      const f = layer.at("forget_gate", unit, k), cPrev = layer.cPrev(unit, k);
      const letIn = layer.at("input_gate", unit, k) * layer.at("candidate", unit, k);
      const whole = f * cPrev + letIn;
      const over = Math.min(clip, Math.max(-clip, whole)) - whole;
      kept[k] = product;
      written[k] = (1 - zoneout) * letIn * product;
      cut[k] = (1 - zoneout) * over * product;
      product *= zoneout + (1 - zoneout) * f;
      size += Math.abs(written[k]) + Math.abs(cut[k]);
      sum += written[k] + cut[k];
    }
    if (layer.beginsAt(k)) {
      start = layer.startOf(unit, k) * product;
      break;
    }
  }
  sum += start;
  size += Math.abs(start);
  const cell = layer.at("cell", unit, step), rest = cell - sum;
  const adjusted = size > 0 ? Math.abs(rest) / size : Math.abs(rest) > 0 ? 1 : 0;
  const exact = Number.isFinite(rest) && adjusted <= 0.01;
  if (exact && size > 0) {
    const share = rest / size;
    const change = (term) => term + share * Math.abs(term);
    for (let k = 0; k < steps; k++) {
      written[k] = change(written[k]);
      cut[k] = change(cut[k]);
    }
    start = change(start);
  }
  return {unit, step, written, cut, kept, start, startKept: product, first, cell, adjusted, exact};
}
