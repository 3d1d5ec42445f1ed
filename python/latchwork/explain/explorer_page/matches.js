// Units that are on throughout a range of steps, and other places where the same units are.

// In the sequence, and in the corpus.
const MOST_PLACES = 20;

// Each unit that stays at or above the threshold from `from` to `to` (sign 1), or at or below minus it (sign -1).
function unitsOn(layer, from, to, threshold) {
  const bound = threshold * layer.facts.scale, values = layer.signals[layer.watched], on = [];
  for (let unit = 0; unit < layer.units; unit++) {
    let least = Infinity, most = -Infinity, valid = true;
    for (let k = unit * layer.steps + from; k <= unit * layer.steps + to; k++) {
      const value = values[k];
      if (Number.isNaN(value)) valid = false;
      if (value < least) least = value;
      if (value > most) most = value;
    }
    if (valid && least >= bound) on.push({unit, sign: 1});
    else if (valid && most <= -bound) on.push({unit, sign: -1});
  }
  return on;
}

function countsHere(layer, on, threshold) {
  const bound = threshold * layer.facts.scale, values = layer.signals[layer.watched];
  const counts = new Uint16Array(layer.steps);
  for (const {unit, sign} of on) {
    for (let step = 0; step < layer.steps; step++) {
      if (sign * values[unit * layer.steps + step] >= bound) counts[step]++;
    }
  }
  return counts;
}

// `needed` is how many thresholds must be reached.
function countsInCorpus(corpus, layer, on, needed) {
  const counts = new Uint16Array(corpus.steps);
  for (const {unit, sign} of on) {
    for (let step = 0; step < corpus.steps; step++) {
      if (sign * corpus.level(layer, unit, step) >= needed) counts[step]++;
    }
  }
  return counts;
}

// By how many steps two stretches differ in length.
function unlike(place, range) {
  return Math.abs((place.to - place.from) - (range.to - range.from));
}

// Stretches of steps in which many of the units are on at once: first those of all units, then of one less, down to half
// of them; among equals first those that are about as long as the range. `ends`: where sequences end, which no stretch
// crosses; `avoid`: a stretch to leave out.
function placesOf(counts, ends, units, range, avoid) {
  const taken = new Uint8Array(counts.length), places = [];
  if (avoid) taken.fill(1, avoid.from, avoid.to + 1);
  for (let least = units; least >= Math.max(1, Math.ceil(units / 2)) && places.length < MOST_PLACES; least--) {
    const found = [];
    let begin = 0;
    for (const end of ends) {
      for (let step = begin; step < end; step++) {
        if (counts[step] < least || taken[step]) continue;
        let last = step;
        while (last + 1 < end && counts[last + 1] >= least && !taken[last + 1]) last++;
        // A stretch beside one that was found with more units is the same place.
        const beside = (step > begin && taken[step - 1]) || (last + 1 < end && taken[last + 1]);
        if (!beside) found.push({from: step, to: last, count: least, begin, end});
        step = last;
      }
      begin = end;
    }
    found.sort((a, b) => unlike(a, range) - unlike(b, range) || a.from - b.from);
    for (const place of found) taken.fill(1, place.from, place.to + 1);
    places.push(...found);
  }
  return places.slice(0, MOST_PLACES);
}
