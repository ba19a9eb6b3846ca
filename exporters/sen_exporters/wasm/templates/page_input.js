// Input of the demo page: a drawing, sliders, or pasted values.

const model = await load(Uint8Array.from(atob(element("module").textContent), (letter) => letter.charCodeAt(0)))
  .catch((error) => {
    Object.assign(element("failure"), { hidden: false, textContent: `The network does not run here: ${error.message}` });
    throw error;
  });
const size = model.features.length;
const middleOf = (i) => data.mean[i] ?? (rangeOf(i)[0] + rangeOf(i)[1]) / 2;
const rangeOf = (i) => [data.low[i % data.low.length], data.high[i % data.high.length]];

/** Add an element with properties to another one. */
function add(parent, tag, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

function addButton(parent, text, action) {
  add(parent, "button", { type: "button", textContent: text }).addEventListener("click", action);
}

/** Random values within their ranges; spikes are rare. */
function randomValues() {
  return Float32Array.from({ length: model.inputLength }, (_, i) => {
    const [low, high] = rangeOf(i % size);
    return data.isBinary ? Number(Math.random() < 0.15) : low + Math.random() * (high - low);
  });
}

// --- drawing -------------------------------------------------------------------------------------

const PIXELS = 280; // of the canvas, in each direction
const SAMPLE = [[82, 70], [200, 68], [170, 120], [140, 172], [120, 226]]; // a seven

function addDrawing(form) {
  const board = add(form, "canvas", { id: "draw", width: PIXELS, height: PIXELS, tabIndex: 0 });
  board.setAttribute("aria-label", "Drawing area");
  const row = add(form, "div", { className: "controls" });
  addButton(row, "Clear", () => renew([]));
  const label = add(row, "label");
  const centre = add(label, "input", { type: "checkbox", checked: data.side === 28 });
  label.append("centre and scale, as MNIST");
  const seen = add(row, "canvas", { id: "seen", width: data.side, height: data.side, title: "what the network sees" });
  let strokes = [];

  function renew(drawn) {
    strokes = drawn;
    refresh();
  }

  function refresh() {
    const brush = board.getContext("2d");
    paint(brush, strokes, 1, 0, 0);
    const gray = centre.checked ? centred(strokes) : shrink(board);
    const image = new ImageData(data.side, data.side);
    gray.forEach((value, i) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
    seen.getContext("2d").putImageData(image, 0, 0);
    infer(Float32Array.from(gray, (value, i) => rangeOf(i)[0] + value * (rangeOf(i)[1] - rangeOf(i)[0])));
  }

  const at = (event) => [(event.offsetX * PIXELS) / board.clientWidth, (event.offsetY * PIXELS) / board.clientHeight];
  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    renew([...strokes, [at(event)]]);
  });
  board.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    strokes.at(-1)?.push(at(event));
    refresh();
  });
  centre.addEventListener("change", refresh);
  return () => renew([SAMPLE]);
}

/** Paint strokes in white on black, scaled and moved. */
function paint(brush, strokes, scale, x, y) {
  brush.setTransform(1, 0, 0, 1, 0, 0);
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, PIXELS, PIXELS);
  Object.assign(brush, { strokeStyle: "#fff", lineWidth: 22, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    brush.beginPath();
    for (const point of stroke) brush.lineTo(scale * point[0] + x, scale * point[1] + y);
    if (stroke.length === 1) brush.lineTo(scale * stroke[0][0] + x + 0.1, scale * stroke[0][1] + y);
    brush.stroke();
  }
}

/** Means of square parts of a canvas, 0 to 1. */
function shrink(board) {
  const pixels = board.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, PIXELS, PIXELS).data;
  const [sums, counts] = [new Float32Array(data.side ** 2), new Float32Array(data.side ** 2)];
  for (let y = 0; y < PIXELS; y++) {
    for (let x = 0; x < PIXELS; x++) {
      const part = Math.floor((y * data.side) / PIXELS) * data.side + Math.floor((x * data.side) / PIXELS);
      sums[part] += pixels[4 * (y * PIXELS + x)] / 255;
      counts[part]++;
    }
  }
  return sums.map((sum, part) => sum / Math.max(1, counts[part]));
}

/** The drawing as digits of MNIST are: 20 of 28 pixels high or wide, its centre of mass in the middle. */
function centred(strokes) {
  const board = new OffscreenCanvas(PIXELS, PIXELS);
  const brush = board.getContext("2d", { willReadFrequently: true });
  const points = strokes.flat();
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = ((20 / 28) * PIXELS - 22) / Math.max(40, right - left, bottom - top);
  const place = (x, y) => paint(brush, strokes, scale, PIXELS / 2 - x, PIXELS / 2 - y);
  place((scale * (left + right)) / 2, (scale * (top + bottom)) / 2);
  const gray = shrink(board);
  const mass = gray.reduce((sum, value) => sum + value, 0);
  if (!mass) return gray;
  const moment = (place) => gray.reduce((sum, value, part) => sum + value * (place(part) + 0.5), 0) / mass;
  const unit = PIXELS / data.side;
  const [x, y] = [moment((part) => part % data.side), moment((part) => Math.floor(part / data.side))];
  const shift = (centre) => (centre - data.side / 2) * unit;
  place((scale * (left + right)) / 2 + shift(x), (scale * (top + bottom)) / 2 + shift(y));
  return shrink(board);
}

// --- sliders and text ----------------------------------------------------------------------------

let showSliders = () => {};

function addSliders(form) {
  const grid = add(form, "div", { className: "sliders" });
  const inputs = model.features.map((name, i) => {
    const [low, high] = rangeOf(i);
    add(grid, "label", { textContent: name, htmlFor: `x${i}` });
    const slider = add(grid, "input", { type: "range", id: `x${i}`, min: low, max: high, step: "any", value: middleOf(i) });
    add(grid, "output").textContent = round(Number(slider.value));
    return slider;
  });
  const change = () => {
    for (const input of inputs) input.nextSibling.textContent = round(Number(input.value));
    infer(Float32Array.from(inputs, (input) => Number(input.value)));
  };
  showSliders = (values) => inputs.forEach((input, i) => {
    input.value = values[i];
    input.nextSibling.textContent = round(values[i]);
  });
  const middle = () => {
    inputs.forEach((input, i) => (input.value = middleOf(i)));
    change();
  };
  grid.addEventListener("input", change);
  const row = add(form, "div", { className: "controls" });
  addButton(row, data.mean.length ? "Means" : "Middle", middle);
  addRandom(row);
  return middle;
}

function addRandom(row) {
  addButton(row, "Random", () => take(randomValues()));
}

function addText(form) {
  addRandom(add(form, "div", { className: "controls" }));
  element("paste").open = true;
  return () => take(randomValues());
}

/** Run values, and show them where they can be changed. */
function take(values) {
  showSliders(values);
  const digits = (value) => String(Number(value.toPrecision(6)));
  const rows = Array.from({ length: values.length / size }, (_, row) => Array.from(values.subarray(row * size, (row + 1) * size), digits));
  element("values").value = rows.map((row) => row.join(", ")).join("\n");
  infer(values);
}

/** Numbers of a text, separated by commas, semicolons or spaces; a first line of names is left out. */
function parse(text) {
  const lines = text.trim().split("\n");
  const isNames = lines.length > 1 && lines[0].split(/[,;\s]+/).every((word) => word === "" || Number.isNaN(Number(word)));
  const words = (isNames ? lines.slice(1) : lines).join("\n").split(/[,;\s]+/).filter((word) => word !== "");
  const wrong = words.find((word) => Number.isNaN(Number(word)));
  if (wrong !== undefined) throw new RangeError(`"${wrong.slice(0, 30)}" is not a number`);
  if (words.length !== model.inputLength) throw new RangeError(`${words.length} values; expected ${model.inputLength}`);
  return Float32Array.from(words, Number);
}

function paste() {
  try {
    const values = parse(element("values").value);
    showSliders(values);
    infer(values);
  } catch (error) {
    element("complaint").textContent = error.message;
  }
}

element("take").addEventListener("click", paste);
element("expected").textContent = model.isSequence
  ? `${model.timesteps} lines of ${size} numbers`
  : `${size} numbers${size > 1 ? ", separated by commas" : ""}`;

/** Add the form of the input, and run a first one. */
function start() {
  ({ image: addDrawing, sliders: addSliders, text: addText })[data.form](element("form"))();
}
