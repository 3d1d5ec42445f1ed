// Numbers and labels as a reader sees them.

const PICTURES = {"\n": "↵", "\t": "⇥", "\r": "␍", " ": "␣", "\u007f": "␡", "\u00a0": "⍽"};

// A label in which everything can be seen: spaces, control characters, and those that would turn the direction of the text
// around or are half of a pair.
function visible(label) {
  let text = "";
  for (const character of label) {
    const code = character.codePointAt(0);
    if (PICTURES[character]) text += PICTURES[character];
    else if (code < 32) text += String.fromCodePoint(0x2400 + code);
    else if (isHidden(code)) text += `\\u${code.toString(16).padStart(4, "0")}`;
    else text += character;
  }
  return text;
}

function isHidden(code) {
  return (code >= 0x80 && code < 0xa0) || (code >= 0xd800 && code < 0xe000) || (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code === 0x061c || code === 0xfeff;
}

// Single spaces within a label of several words can be read as they are.
function readable(label) {
  return label.trim() && /^\S+( \S+)+$/.test(label) ? visible(label).replaceAll("␣", " ") : visible(label);
}

// A text of at most so many characters. What is left out is in the middle, because times differ at their ends.
function shortened(text, length) {
  const characters = [...text], end = Math.floor((length - 1) / 2);
  if (characters.length <= length) return text;
  return `${characters.slice(0, length - 1 - end).join("")}…${end ? characters.slice(-end).join("") : ""}`;
}

// Three digits.
function shown(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  let text;
  if (size === 0) text = "0";
  else if (size >= 1e5 || size < 5e-4) text = size.toExponential(2).replace("e-", "e−").replace("e+", "e");
  else if (size >= 100) text = Math.round(size).toString();
  else if (size >= 10) text = size.toFixed(1);
  else if (size >= 1) text = size.toFixed(2);
  else text = size.toFixed(3);
  return value < 0 ? "−" + text : text;
}

function percent(share) {
  const size = 100 * share;
  if (size === 0) return "0 %";
  if (size < 0.005) return "less than 0.01 %";
  return `${size < 1 ? size.toFixed(2) : size < 10 ? size.toFixed(1) : Math.round(size)} %`;
}

function grouped(count) {
  return count.toLocaleString("en");
}

function plural(count, noun) {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}
