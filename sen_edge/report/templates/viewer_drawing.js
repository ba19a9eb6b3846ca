// Draws the network: lines on one canvas; on another, above it, neurons from far to near, pixel by pixel, because a call
// to the canvas for each of ten thousand takes longer than a frame. Nothing but what the page holds is used.
// The page puts this, viewer_marks.js and viewer_controls.js into one function, which can be left early.
const canvas = document.getElementById("canvas");
const context = canvas.getContext && canvas.getContext("2d");
if (!context) return; // the table stays
const front = document.getElementById("front");
const pen = front.getContext("2d");

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

// --- what the page holds -----------------------------------------------------------------------

function decoded(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const positions = decoded(data.positions, Float32Array); // [n, 3]
const numbers = decoded(data.numbers, Uint32Array); // [n], of a neuron in its layer
const masks = decoded(data.masks, Float32Array); // [n], NaN in the last layer
const signs = decoded(data.signs, Int8Array); // [n], of the weights that leave a neuron
const sources = decoded(data.sources, Uint32Array); // [links], the strongest of each layer first
const targets = decoded(data.targets, Uint32Array);
const weights = decoded(data.weights, Float32Array);
const coordinates = data.coordinates ? decoded(data.coordinates, Float32Array) : null; // [n, d] as learned
const activity = data.activity ? decoded(data.activity.values, Uint8Array) : null; // [T, active], 255 for a spike

const n = numbers.length;
const layers = data.drawn.length;
const layerOf = new Uint16Array(n);
const firstOf = [];
const firstLinkOf = [];
let total = 0;
data.drawn.forEach((count, layer) => {
  firstOf.push(total);
  layerOf.fill(layer, total, total + count);
  total += count;
});
let totalLinks = 0;
for (const count of data.links) {
  firstLinkOf.push(totalLinks);
  totalLinks += count;
}
const active = activity ? activity.length / data.activity.steps : 0;
const means = new Float32Array(active); // over all steps, 0 to 1
for (let k = 0; k < active * (activity ? data.activity.steps : 0); k++) {
  means[k % active] += activity[k] / (255 * data.activity.steps);
}

/** Of each layer where nearly all its neurons are: y, z, the middle along x, and x; a few may lie far outside. */
const boxes = data.drawn.map((count, layer) => {
  const along = [0, 1, 2].map((axis) =>
    Float32Array.from({ length: count }, (_, i) => positions[3 * (firstOf[layer] + i) + axis]).sort());
  const at = (axis, share) => along[axis][Math.round(share * (count - 1))];
  return [at(1, 0.02), at(1, 0.98), at(2, 0.02), at(2, 0.98), at(0, 0.5), at(0, 0.02), at(0, 0.98)];
});

// --- how it is seen ----------------------------------------------------------------------------

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
let frame = null; // the pixels of the neurons
const sprites = new Map();

const screenX = new Float32Array(n);
const screenY = new Float32Array(n);
const depth = new Float32Array(n); // scale of perspective: larger is nearer
const order = new Uint32Array(n);
const BINS = 1024;
const bins = new Uint32Array(BINS + 1);

function offset(layer) {
  return (layer - (layers - 1) / 2) * data.gap * apart;
}

/** Radius of what is to be seen, for where the layers are now; a few neurons far away may lie outside. */
function extent() {
  const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
  const centre = [
    middle(boxes.map((box, layer) => box[4] + offset(layer))),
    middle(boxes.flatMap((box) => box.slice(0, 2))),
    middle(boxes.flatMap((box) => box.slice(2, 4))),
  ];
  const radii = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    radii[i] = Math.hypot(
      positions[3 * i] + offset(layerOf[i]) - centre[0],
      positions[3 * i + 1] - centre[1],
      positions[3 * i + 2] - centre[2],
    );
  }
  radii.sort();
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

/** From where a point is to [x, y, scale of perspective] on the screen. */
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

/** `project` of all neurons, written out because it is most of a frame, and their order from far to near. */
function place(eye) {
  const offsets = data.drawn.map((_, layer) => offset(layer) - seen.centre[0]);
  const toX = eye.width / 2 + view.panX;
  const toY = eye.height / 2 + view.panY;
  bins.fill(0);
  for (let i = 0, at = 0; i < n; i++, at += 3) {
    const x = positions[at] + offsets[layerOf[i]];
    const y = positions[at + 1] - seen.centre[1];
    const z = positions[at + 2] - seen.centre[2];
    const back = z * eye.cosY - x * eye.sinY;
    const near = 1 / Math.max(0.3, 1 - (0.22 * (back * eye.cosP + y * eye.sinP)) / seen.radius);
    screenX[i] = toX + (x * eye.cosY + z * eye.sinY) * eye.scale * near;
    screenY[i] = toY - (y * eye.cosP - back * eye.sinP) * eye.scale * near;
    depth[i] = near;
    bins[bin(near) + 1]++;
  }
  for (let b = 0; b < BINS; b++) bins[b + 1] += bins[b];
  for (let i = 0; i < n; i++) order[bins[bin(depth[i])]++] = i;
}

function bin(near) {
  return Math.max(0, Math.min(BINS - 1, ((near - 0.7) / 0.8) * BINS)) | 0;
}

// --- drawing -----------------------------------------------------------------------------------

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

let ink = {};
function readColours() {
  ink = {
    "-1": colour("--s0"), 1: colour("--s1"), 0: colour("--soft"),
    text: colour("--ink"), paper: colour("--paper"), rule: colour("--rule"),
  };
  sprites.clear();
}

function kindOf(i) {
  return layerOf[i] === layers - 1 ? 2 : signs[i];
}

/** 0 to 1: what a neuron does in the step that is shown; -1 where that is not known. */
function level(i) {
  if (!activity || i >= active) return -1;
  if (step) return activity[(step - 1) * active + i] / 255;
  return means[i];
}

function draw() {
  isAsked = false;
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const eye = camera();
  if (!eye.width || !eye.height) return;
  const [width, height] = [Math.round(eye.width * ratio), Math.round(eye.height * ratio)];
  if (!frame || frame.width !== width || frame.height !== height) {
    canvas.width = front.width = width;
    canvas.height = front.height = height;
    frame = pen.createImageData(width, height);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
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

/** Links in few paths: by sign and by how strong they are among those of their layer. */
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

/** Whether a link is drawn in full: those of the neuron that is looked at, those that carry a spike, or all. */
function concerns(k) {
  const looked = hovered >= 0 ? hovered : picked;
  if (looked >= 0) return sources[k] === looked || targets[k] === looked;
  return !step || level(sources[k]) !== 0;
}

function drawNeurons(eye, ratio) {
  const base = Math.max(1.7, Math.min(4.8, 170 / Math.sqrt(n))) * Math.sqrt(view.zoom / closeness) *
    Math.max(0.75, Math.min(1.15, Math.min(eye.width, eye.height) / 560));
  frame.data.fill(0);
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
    stamp(sprite(kindOf(i), isSpiking, pixels), pixels, left, top, alpha);
  }
  pen.putImageData(frame, 0, 0);
  for (const i of [picked, hovered]) {
    if (i < 0 || !shown[layerOf[i]]) continue;
    pen.strokeStyle = ink.text;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(screenX[i], screenY[i], 13, 0, 7);
    pen.stroke();
  }
}

function drawLabels(eye) {
  pen.font = "13px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = ink.paper;
  pen.fillStyle = ink.text;
  const lowest = [];
  for (let layer = 0; layer < layers; layer++) {
    if (!shown[layer]) continue;
    const at = corners(eye, layer);
    const words = data.names[layer];
    const x = at.reduce((sum, corner) => sum + corner[0], 0) / 4;
    let y = Math.max(18, Math.min(...at.map((corner) => corner[1])) - 12);
    const half = pen.measureText(words).width / 2 + 4;
    const isFree = () => lowest.every(([other, at, width]) => Math.abs(other - x) > half + width || Math.abs(at - y) > 16);
    while (!isFree() && y < eye.height - 20) y += 17;
    lowest.push([x, y, half]);
    pen.strokeText(words, x, y);
    pen.fillText(words, x, y);
  }
}

function drawAxes(eye) {
  const length = 26;
  const x0 = 46;
  const y0 = eye.height - 46;
  pen.font = "11px system-ui, sans-serif";
  pen.strokeStyle = pen.fillStyle = ink[0];
  pen.lineWidth = 1.2;
  [[eye.cosY, eye.sinY * eye.sinP], [0, eye.cosP], [eye.sinY, -eye.cosY * eye.sinP]].forEach(([right, up], axis) => {
    const name = data.axes[axis];
    if (!name || Math.hypot(right, up) < 0.15) return;
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x0 + length * right, y0 - length * up);
    pen.stroke();
    pen.textAlign = right > 0.3 ? "left" : right < -0.3 ? "right" : "center";
    pen.fillText(name, x0 + (length + 6) * right, y0 - (length + 8) * up + 4);
  });
}

function ask() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(draw);
}
