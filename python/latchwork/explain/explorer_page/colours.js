// Colours for values, which people who cannot tell red from green can tell apart, and colours of annotations.

// From shut to open as red, green, blue: matplotlib's cividis, as lw.plot.gates has it, in both themes.
const GATE_COLOURS = [[0, 34, 78], [66, 78, 108], [125, 124, 120], [188, 175, 111], [254, 232, 56]];
// From negative to positive; zero is close to the background.
const SIGNED_COLOURS = {
  light: [[5, 62, 122], [66, 133, 190], [170, 205, 229], [248, 247, 243], [250, 205, 150], [226, 125, 42], [145, 60, 0]],
  dark: [[150, 206, 255], [72, 142, 210], [34, 78, 122], [24, 27, 33], [120, 66, 22], [214, 120, 40], [255, 205, 140]],
};
// A NaN or an infinity: on no scale.
const INVALID = {light: [214, 0, 147], dark: [255, 80, 190]};
// Okabe and Ito's, in an order in which neighbours differ.
const LABEL_COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#999999"];

// 256 colours as ImageData has them, and one more for what is on no scale.
function palette(stops, invalid) {
  const colours = new Uint32Array(257), octets = new Uint8Array(colours.buffer);
  for (let k = 0; k < 256; k++) {
    const place = k / 255 * (stops.length - 1), below = Math.min(stops.length - 2, Math.floor(place));
    for (let part = 0; part < 3; part++) {
      const [from, to] = [stops[below][part], stops[below + 1][part]];
      octets[4 * k + part] = Math.round(from + (to - from) * (place - below));
    }
    octets[4 * k + 3] = 255;
  }
  octets.set([...invalid, 255], 4 * 256);
  return colours;
}

function palettes(theme) {
  return {gate: palette(GATE_COLOURS, INVALID[theme]), signed: palette(SIGNED_COLOURS[theme], INVALID[theme])};
}

function gradientStops(theme, signed) {
  return (signed ? SIGNED_COLOURS[theme] : GATE_COLOURS).map((colour) => `rgb(${colour.join(",")})`);
}
