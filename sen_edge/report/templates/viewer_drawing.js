// Draws the network of the page on a canvas: synapses, then neurons from far to near.
// The page wraps this file and viewer_controls.js in one function.
const canvas = document.getElementById("canvas");
const context = canvas.getContext && canvas.getContext("2d");
if (!context) return; // the table stays

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

// --- data of the page -----------------------------------------------------------------------

function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const positions = decode(data.positions, Float32Array); // [n, 3]
const numbers = decode(data.numbers, Uint32Array); // [n], of a neuron in its layer
const masks = decode(data.masks, Float32Array); // [n], NaN in the last layer
const signs = decode(data.signs, Int8Array); // [n], of the weights that leave a neuron
const sources = decode(data.sources, Uint32Array); // [links], the strongest of each layer first
const targets = decode(data.targets, Uint32Array);
const weights = decode(data.weights, Float32Array);
const coordinates = data.coordinates ? decode(data.coordinates, Float32Array) : null; // [n, d] as learned
const activity = data.activity ? decode(data.activity.values, Uint8Array) : null; // [T, active], 255 for a spike

const n = numbers.length;
const layers = data.drawn.length;
const layerOf = new Uint16Array(n);
const starts = (counts) => counts.map((_, index) => counts.slice(0, index).reduce((sum, count) => sum + count, 0));
const firstOf = starts(data.drawn);
const firstLinkOf = starts(data.links);
firstOf.forEach((first, layer) => layerOf.fill(layer, first));
const active = activity ? activity.length / data.activity.steps : 0;
const means = new Float32Array(active); // over all steps, 0 to 1
for (let k = 0; k < active * (activity ? data.activity.steps : 0); k++) {
  means[k % active] += activity[k] / (255 * data.activity.steps);
}

/** Box of the middle 96 % of each layer: low and high y, low and high z, median x, low and high x. */
const boxes = data.drawn.map((count, layer) => {
  const along = [0, 1, 2].map((axis) =>
    Float32Array.from({ length: count }, (_, i) => positions[3 * (firstOf[layer] + i) + axis]).sort());
  const at = (axis, share) => along[axis][Math.round(share * (count - 1))];
  return [at(1, 0.02), at(1, 0.98), at(2, 0.02), at(2, 0.98), at(0, 0.5), at(0, 0.02), at(0, 0.98)];
});

// --- view ----------------------------------------------------------------------------

const view = { yaw: data.view[0], pitch: data.view[1], zoom: 1, panX: 0, panY: 0 };
const shown = data.drawn.map(() => true);
let closeness = 1; // the zoom at which all is seen
let apart = 1;
let share = 1;
let step = 0; // 0: all steps together
let hovered = -1;
let picked = -1;
let isPlaying = false;
let isAsked = false;
const sprites = new Map();

const screenX = new Float32Array(n);
const screenY = new Float32Array(n);
const depth = new Float32Array(n); // scale of perspective: larger is nearer
const order = Uint32Array.from({ length: n }, (_, i) => i);

function offset(layer) {
  return (layer - (layers - 1) / 2) * data.gap * apart;
}

const bounds = (values) => [Math.min(...values), Math.max(...values)];

/** Centre and radius of the middle 98.5 % of all neurons, with the layers as far apart as they are now. */
function extent() {
  const middle = (values) => bounds(values).reduce((low, high) => (low + high) / 2);
  const centre = [
    middle(boxes.map((box, layer) => box[4] + offset(layer))),
    middle(boxes.flatMap((box) => box.slice(0, 2))),
    middle(boxes.flatMap((box) => box.slice(2, 4))),
  ];
  const radii = Float32Array.from({ length: n }, (_, i) => Math.hypot(
    positions[3 * i] + offset(layerOf[i]) - centre[0], positions[3 * i + 1] - centre[1], positions[3 * i + 2] - centre[2],
  )).sort();
  return { centre, radius: radii[Math.floor(0.985 * (n - 1))] || 1 };
}
let seen = extent();

function camera() {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  return {
    width,
    height,
    scale: (0.5 * Math.min(width * 0.94, height * 1.3) * view.zoom) / seen.radius,
    cosY: Math.cos(view.yaw),
    sinY: Math.sin(view.yaw),
    cosP: Math.cos(view.pitch),
    sinP: Math.sin(view.pitch),
  };
}

/** Project a point to [x, y, scale of perspective] on the screen. */
function project(eye, x, y, z) {
  x -= seen.centre[0];
  y -= seen.centre[1];
  z -= seen.centre[2];
  const across = x * eye.cosY + z * eye.sinY;
  const back = z * eye.cosY - x * eye.sinY;
  const up = y * eye.cosP - back * eye.sinP;
  const near = 1 / Math.max(0.3, 1 - (0.22 * (back * eye.cosP + y * eye.sinP)) / seen.radius);
  return [
    eye.width / 2 + view.panX + across * eye.scale * near,
    eye.height / 2 + view.panY - up * eye.scale * near,
    near,
  ];
}

/** Project all neurons, and sort them from far to near. */
function place(eye) {
  for (let i = 0; i < n; i++) {
    const at = project(eye, positions[3 * i] + offset(layerOf[i]), positions[3 * i + 1], positions[3 * i + 2]);
    screenX[i] = at[0];
    screenY[i] = at[1];
    depth[i] = at[2];
  }
  order.sort((a, b) => depth[a] - depth[b]);
}

// --- drawing -----------------------------------------------------------------------------------

let ink = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  ink = {
    "-1": colour("--s0"), 1: colour("--s1"), 0: colour("--soft"),
    text: colour("--ink"), paper: colour("--paper"), rule: colour("--rule"),
  };
  sprites.clear();
}

function kindOf(i) {
  return layerOf[i] === layers - 1 ? 2 : signs[i];
}

/** Activity of a neuron in the current step, 0 to 1; -1 if unknown. */
function level(i) {
  if (!activity || i >= active) return -1;
  if (step) return activity[(step - 1) * active + i] / 255;
  return means[i];
}

/** The mark of a neuron: a disc excites, a square inhibits, a diamond is an output, a ring is silent. */
function sprite(kind, isSpiking, size) {
  const key = (size * 4 + kind + 1) * 2 + isSpiking;
  if (sprites.has(key)) return sprites.get(key);
  const picture = document.createElement("canvas");
  picture.width = picture.height = size;
  const brush = picture.getContext("2d");
  brush.translate(size / 2, size / 2);
  brush.scale(size / 64, size / 64);
  if (isSpiking) {
    brush.fillStyle = kind === 2 ? ink[0] : ink[kind];
    brush.globalAlpha = 0.28;
    brush.beginPath();
    brush.arc(0, 0, 31, 0, 7);
    brush.fill();
    brush.globalAlpha = 1;
  }
  const r = isSpiking ? 16 : 25;
  brush.beginPath();
  if (kind === 1 || kind === 0) brush.arc(0, 0, r, 0, 7);
  else if (kind === -1) brush.rect(-0.86 * r, -0.86 * r, 1.72 * r, 1.72 * r);
  else [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]].forEach(([x, y]) => brush.lineTo(x * r, y * r));
  brush.closePath();
  brush.fillStyle = kind === 0 ? ink.paper : kind === 2 ? ink.text : ink[kind];
  brush.strokeStyle = kind === 0 ? ink[0] : isSpiking ? ink.text : ink.paper;
  brush.lineWidth = kind === 0 || isSpiking ? 6 : 5;
  brush.fill();
  brush.stroke();
  sprites.set(key, picture);
  return picture;
}

function draw() {
  isAsked = false;
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const eye = camera();
  if (!eye.width || !eye.height) return;
  const [width, height] = [Math.round(eye.width * ratio), Math.round(eye.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = ink.paper;
  context.fillRect(0, 0, eye.width, eye.height);
  place(eye);
  drawFrames(eye);
  drawLinks();
  drawNeurons(eye, ratio);
  drawLabels(eye);
  drawAxes(eye);
}

function corners(eye, layer) {
  const [low, high, near, far, x] = boxes[layer];
  return [[low, near], [high, near], [high, far], [low, far]].map(([y, z]) => project(eye, x + offset(layer), y, z));
}

function drawFrames(eye) {
  context.strokeStyle = ink.rule;
  context.lineWidth = 1;
  for (let layer = 0; layer < layers; layer++) {
    if (!shown[layer] || data.drawn[layer] < 2) continue;
    context.beginPath();
    corners(eye, layer).forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.stroke();
  }
}

/** Draw synapses in few paths, by sign and by strength within their layer. */
function drawLinks() {
  const LEVELS = 4;
  for (let layer = 0; layer < layers - 1; layer++) {
    if (!shown[layer] || !shown[layer + 1]) continue;
    const first = firstLinkOf[layer];
    const count = Math.round(share * data.links[layer]);
    const dense = Math.min(1, 14 / Math.sqrt(count + 1));
    for (let part = LEVELS - 1; part >= 0; part--) {
      const from = first + Math.floor((part * count) / LEVELS);
      const to = first + Math.floor(((part + 1) * count) / LEVELS);
      for (const sign of [-1, 1]) {
        const strength = (1 - part / LEVELS) * dense;
        stroke(from, to, sign, 0.25 + 0.6 * strength, 0.6 + 1.2 * strength);
      }
    }
  }
}

function stroke(from, to, sign, alpha, width) {
  context.strokeStyle = ink[sign];
  for (const isMeant of [false, true]) {
    context.globalAlpha = isMeant ? alpha : 0.05 + 0.1 * alpha;
    context.lineWidth = isMeant ? width : 0.6;
    context.beginPath();
    for (let k = from; k < to; k++) {
      if (weights[k] > 0 !== sign > 0 || concerns(k) !== isMeant) continue;
      context.moveTo(screenX[sources[k]], screenY[sources[k]]);
      context.lineTo(screenX[targets[k]], screenY[targets[k]]);
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

/** Whether a synapse is drawn in full: those of the hovered or picked neuron, those that carry a spike, or all. */
function concerns(k) {
  const looked = hovered >= 0 ? hovered : picked;
  if (looked >= 0) return sources[k] === looked || targets[k] === looked;
  return !step || level(sources[k]) !== 0;
}

function drawNeurons(eye, ratio) {
  const base = Math.max(1.7, Math.min(4.8, 170 / Math.sqrt(n))) * Math.sqrt(view.zoom / closeness) *
    Math.max(0.75, Math.min(1.15, Math.min(eye.width, eye.height) / 560));
  for (let k = 0; k < n; k++) {
    const i = order[k];
    const layer = layerOf[i];
    if (!shown[layer]) continue;
    const now = level(i);
    const isInput = layer === 0;
    const isSpiking = now > 0 && !(isInput && data.activity.isCurrent) && step > 0;
    let size = depth[i] * (data.drawn[layer] > 100 ? base : Math.max(1.4 * base, 4));
    let alpha = Math.min(1, 0.35 + 0.65 * Math.max(0, (depth[i] - 0.8) / 0.4));
    if (now >= 0) {
      alpha *= 0.22 + 0.78 * Math.sqrt(now);
      size *= isSpiking ? 2.6 : 0.7 + 0.7 * now;
    }
    if (i === hovered || i === picked) {
      alpha = 1;
      size = Math.max(size * 1.6, 7);
    }
    const reach = size * (isSpiking ? 1 : 1.28);
    const pixels = Math.max(2, Math.min(96, Math.round(2 * reach * ratio)));
    const left = Math.round(screenX[i] * ratio - pixels / 2);
    const top = Math.round(screenY[i] * ratio - pixels / 2);
    context.globalAlpha = alpha;
    context.drawImage(sprite(kindOf(i), isSpiking, pixels), left / ratio, top / ratio, pixels / ratio, pixels / ratio);
  }
  context.globalAlpha = 1;
  for (const i of [picked, hovered]) {
    if (i < 0 || !shown[layerOf[i]]) continue;
    context.strokeStyle = ink.text;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(screenX[i], screenY[i], 13, 0, 7);
    context.stroke();
  }
}

function drawLabels(eye) {
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  context.lineWidth = 4;
  context.lineJoin = "round";
  context.strokeStyle = ink.paper;
  context.fillStyle = ink.text;
  const lowest = [];
  for (let layer = 0; layer < layers; layer++) {
    if (!shown[layer]) continue;
    const at = corners(eye, layer);
    const words = data.names[layer];
    const x = at.reduce((sum, corner) => sum + corner[0], 0) / 4;
    let y = Math.max(18, Math.min(...at.map((corner) => corner[1])) - 12);
    const half = context.measureText(words).width / 2 + 4;
    const isFree = () => lowest.every(([other, at, width]) => Math.abs(other - x) > half + width || Math.abs(at - y) > 16);
    while (!isFree() && y < eye.height - 20) y += 17;
    lowest.push([x, y, half]);
    context.strokeText(words, x, y);
    context.fillText(words, x, y);
  }
}

function drawAxes(eye) {
  const length = 26;
  const x0 = 46;
  const y0 = eye.height - 46;
  context.font = "11px system-ui, sans-serif";
  context.strokeStyle = context.fillStyle = ink[0];
  context.lineWidth = 1.2;
  [[eye.cosY, eye.sinY * eye.sinP], [0, eye.cosP], [eye.sinY, -eye.cosY * eye.sinP]].forEach(([right, up], axis) => {
    const name = data.axes[axis];
    if (!name || Math.hypot(right, up) < 0.15) return;
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x0 + length * right, y0 - length * up);
    context.stroke();
    context.textAlign = right > 0.3 ? "left" : right < -0.3 ? "right" : "center";
    context.fillText(name, x0 + (length + 6) * right, y0 - (length + 8) * up + 4);
  });
}

function ask() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(draw);
}
