// Draws neurons and synapses in three dimensions on a canvas; the fields of `data` are those of data.py.
// A page joins this file and viewer_controls.js to one module.

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });

// --- data ----------------------------------------------------------------------------------------

const data = JSON.parse(element("data").textContent);
const arrays = Object.fromEntries(Object.entries(data.arrays).map(([name, [kind, text]]) => [
  name, new globalThis[kind](Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer),
]));
const { positions, numbers, kinds, masks, sources, targets, weights, coordinates, delays } = arrays;
const n = numbers.length;
const layers = data.names.length;
const layerOf = new Uint16Array(n);
data.neurons.forEach((first, layer) => layerOf.fill(layer, first));
let activity = arrays.activity; // 0 to 255 of the first `active` neurons, in the mean and in each step
let active = activity ? activity.length / (data.steps + 1) : 0; // neurons with known activity

// --- state ---------------------------------------------------------------------------------------

const view = { yaw: 0, pitch: 0, zoom: 1, scale: 1, x: 0, y: 0 }; // angles in radians; scale: all is seen at zoom 1
const shown = data.names.map(() => true);
let apart = 1; // 1: layers as far apart as data.gap; 0: learned positions
let share = 1; // of the synapses
let step = 0; // 0: mean over all steps
let hovered = -1;
let picked = -1;
let timer = 0; // while playing
let isScheduled = false;

const screenX = new Float32Array(n);
const screenY = new Float32Array(n);
const nearness = new Float32Array(n); // factor of perspective: larger is nearer
const order = new Float64Array(n); // nearness and index in one number, sorted from far to near

function redraw() {
  if (!isScheduled) requestAnimationFrame(draw);
  isScheduled = true;
}

// --- camera --------------------------------------------------------------------------------------

const offset = (layer) => (layer - (layers - 1) / 2) * data.gap * apart;
const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
const span = (values) => Math.max(...values) - Math.min(...values);

/** Corners of the boxes that hold most neurons of each layer. */
function corners() {
  return data.boxes.flatMap(([xs, ys, zs], layer) =>
    xs.flatMap((x) => ys.flatMap((y) => zs.map((z) => [x + offset(layer), y, z]))));
}

/** Turn a vector by the angles of the view: right, up, towards the viewer. */
function turn(x, y, z) {
  const [cosY, sinY, cosP, sinP] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
  const toward = z * cosY - x * sinY;
  return [x * cosY + z * sinY, y * cosP - toward * sinP, toward * cosP + y * sinP];
}

/** Function from a point to its x and y on the canvas and its nearness. */
function camera() {
  const points = corners();
  const [x0, y0, z0] = [0, 1, 2].map((axis) => middle(points.map((point) => point[axis])));
  const radius = Math.max(...points.map(([x, y, z]) => Math.hypot(x - x0, y - y0, z - z0))) || 1;
  const [left, top] = [canvas.clientWidth / 2 + view.x, canvas.clientHeight / 2 + view.y];
  return (x, y, z) => {
    const [right, up, toward] = turn(x - x0, y - y0, z - z0);
    const near = 1 / Math.max(0.3, 1 - (0.22 * toward) / radius);
    const scale = view.scale * view.zoom * near;
    return [left + right * scale, top - up * scale, near];
  };
}

/** First angle; all layers fill the canvas. */
function reset() {
  Object.assign(view, { yaw: 0.62, pitch: 0.3, zoom: 1, scale: 1, x: 0, y: 0 });
  const project = camera();
  const points = corners().map((point) => project(...point));
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const { clientWidth: width, clientHeight: height } = canvas;
  view.scale = Math.min((0.86 * width) / (span(xs) || 1), (0.72 * height) / (span(ys) || 1));
  view.x = view.scale * (width / 2 - middle(xs));
  view.y = view.scale * (height / 2 - middle(ys)) + 0.02 * height;
  redraw();
}

function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const zoom = Math.max(0.2, Math.min(60, view.zoom * factor));
  const done = zoom / view.zoom;
  panBy((x - canvas.clientWidth / 2 - view.x) * (1 - done), (y - canvas.clientHeight / 2 - view.y) * (1 - done));
  view.zoom = zoom;
}

function rotateBy(yaw, pitch) {
  view.yaw += yaw;
  view.pitch = Math.max(-1.57, Math.min(1.57, view.pitch + pitch));
  redraw();
}

function panBy(x, y) {
  view.x += x;
  view.y += y;
  redraw();
}

// --- drawing -------------------------------------------------------------------------------------

const KINDS = ["excitatory", "inhibitory", "silent", "output"];
const disc = new Path2D("M -1 0 a 1 1 0 0 1 2 0 a 1 1 0 0 1 -2 0 z");
const square = new Path2D("M -0.86 -0.86 h 1.72 v 1.72 h -1.72 z");
const diamond = new Path2D("M 0 -1.2 l 1.2 1.2 l -1.2 1.2 l -1.2 -1.2 z");
const MARKS = { excitatory: disc, inhibitory: square, silent: disc, output: diamond };
const sprites = new Map();
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = { excitatory: "s1", inhibitory: "s0", silent: "soft", output: "ink", paper: "paper", rule: "rule" };
  colours = Object.fromEntries(Object.entries(names).map(([name, variable]) =>
    [name, style.getPropertyValue(`--${variable}`).trim()]));
  sprites.clear();
  redraw();
}

function draw() {
  isScheduled = false;
  const ratio = Math.min(2, devicePixelRatio || 1);
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, width, height);
  const project = camera();
  for (let i = 0; i < n; i++) {
    [screenX[i], screenY[i], nearness[i]] =
      project(positions[3 * i] + offset(layerOf[i]), positions[3 * i + 1], positions[3 * i + 2]);
    order[i] = Math.round(nearness[i] * 1e6) * n + i;
  }
  order.sort();
  const frames = data.boxes.map(([xs, [low, high], [near, far]], layer) =>
    [[low, near], [high, near], [high, far], [low, far]].map(([y, z]) => project(middle(xs) + offset(layer), y, z)));
  drawFrames(frames);
  drawSynapses();
  if (delays && step) drawTravellers();
  drawNeurons(ratio);
  drawLabels(frames);
  drawAxes();
}

function drawFrames(frames) {
  context.strokeStyle = colours.rule;
  context.lineWidth = 1;
  frames.forEach((frame, layer) => {
    if (!shown[layer]) return;
    context.beginPath();
    for (const [x, y] of frame) context.lineTo(x, y);
    context.closePath();
    context.stroke();
  });
}

/** Draw synapses by sign and by four levels of strength within their layer, the strongest last. */
function drawSynapses() {
  const LEVELS = 4;
  for (let layer = 0; layer < layers - 1; layer++) {
    if (!shown[layer] || !shown[layer + 1]) continue;
    const first = data.synapses[layer];
    const count = Math.round(share * (data.synapses[layer + 1] - first));
    for (let level = LEVELS - 1; level >= 0; level--) {
      const strength = (1 - level / LEVELS) * Math.min(1, 14 / Math.sqrt(count + 1));
      for (const kind of ["inhibitory", "excitatory"]) {
        const [faint, full] = [new Path2D(), new Path2D()];
        const end = first + Math.floor(((level + 1) * count) / LEVELS);
        for (let k = first + Math.floor((level * count) / LEVELS); k < end; k++) {
          if ((weights[k] > 0) !== (kind === "excitatory")) continue;
          const path = isHighlighted(k) ? full : faint;
          path.moveTo(screenX[sources[k]], screenY[sources[k]]);
          path.lineTo(screenX[targets[k]], screenY[targets[k]]);
        }
        stroke(faint, kind, 0.075 + 0.06 * strength, 0.6);
        stroke(full, kind, 0.25 + 0.6 * strength, 0.6 + 1.2 * strength);
      }
    }
  }
}

/** Draw the spikes under way as dots, at the share of the delay of their synapse that has passed. */
function drawTravellers() {
  const dots = { inhibitory: new Path2D(), excitatory: new Path2D() };
  for (let layer = 0; layer < layers - 1; layer++) {
    if (!shown[layer] || !shown[layer + 1] || !hasSpikes(layer)) continue;
    const first = data.synapses[layer];
    const end = first + Math.round(share * (data.synapses[layer + 1] - first));
    for (let k = first; k < end; k++) {
      const [from, to] = [sources[k], targets[k]];
      for (let age = 1; age <= Math.min(delays[k], step - 1); age++) {
        if (!activity[(step - age) * active + from]) continue;
        const passed = age / delays[k];
        const [x, y] = [screenX, screenY].map((at) => at[from] + passed * (at[to] - at[from]));
        const path = dots[weights[k] > 0 ? "excitatory" : "inhibitory"];
        path.moveTo(x, y);
        path.arc(x, y, 2.2, 0, 7);
      }
    }
  }
  for (const [kind, path] of Object.entries(dots)) {
    context.fillStyle = colours[kind];
    context.fill(path);
  }
}

function stroke(path, colour, alpha, width) {
  Object.assign(context, { strokeStyle: colours[colour], globalAlpha: alpha, lineWidth: width });
  context.stroke(path);
  context.globalAlpha = 1;
}

/** Whether a synapse is one of the hovered or selected neuron, or carries a spike or, on a live page, a signal. */
function isHighlighted(k) {
  const neuron = hovered >= 0 ? hovered : picked;
  if (neuron >= 0) return sources[k] === neuron || targets[k] === neuron;
  return data.isLive ? activityOf(sources[k]) > 0.2 : !step || activityOf(sources[k]) !== 0;
}

/** Activity of a neuron in the current step, 0 to 1; -1 if unknown. */
const activityOf = (i) => (i < active ? activity[step * active + i] / 255 : -1);

/** Whether the neurons of a layer spike. */
const hasSpikes = (layer) => !(layer === 0 && data.isCurrent) && !(layer === layers - 1 && data.isMembrane);

/** Blend marks of neurons into the pixels of the canvas: with software rendering several times as fast as drawImage. */
function drawNeurons(ratio) {
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const base = Math.max(1.7, Math.min(4.8, 170 / Math.sqrt(n))) * Math.sqrt(view.zoom);
  for (const key of order) {
    const i = key % n;
    const layer = layerOf[i];
    if (!shown[layer]) continue;
    const now = activityOf(i);
    const isSpiking = step > 0 && now > 0 && hasSpikes(layer);
    let radius = nearness[i] * (data.neurons[layer + 1] - data.neurons[layer] > 100 ? base : Math.max(1.4 * base, 4));
    let alpha = Math.min(1, 0.35 + 0.65 * Math.max(0, (nearness[i] - 0.8) / 0.4));
    if (now >= 0) {
      radius *= isSpiking ? 1.3 : 0.7 + 0.7 * now;
      alpha *= 0.22 + 0.78 * Math.sqrt(now);
    }
    if (i === hovered || i === picked) [radius, alpha] = [Math.max(1.6 * radius, 7), 1];
    blend(image, sprite(kinds[i], isSpiking, 2.56 * radius * ratio), screenX[i] * ratio, screenY[i] * ratio, alpha);
  }
  context.putImageData(image, 0, 0);
  for (const i of [picked, hovered]) {
    if (i < 0 || !shown[layerOf[i]]) continue;
    const ring = new Path2D();
    ring.arc(screenX[i], screenY[i], 13, 0, 7);
    stroke(ring, "output", 1, 2);
  }
}

/** Pixels of a mark: disc, square, ring or diamond by kind; a spike has a halo. */
function sprite(kindIndex, isSpiking, size) {
  size = Math.max(2, Math.min(96, Math.round(size)));
  const key = (size * KINDS.length + kindIndex) * 2 + isSpiking;
  if (sprites.has(key)) return sprites.get(key);
  const kind = KINDS[kindIndex];
  const side = isSpiking ? Math.round(1.6 * size) : size;
  const brush = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  brush.translate(side / 2, side / 2);
  brush.fillStyle = colours[kind === "output" ? "silent" : kind];
  brush.globalAlpha = isSpiking ? 0.28 : 0;
  brush.arc(0, 0, side / 2, 0, 7);
  brush.fill();
  brush.globalAlpha = 1;
  brush.scale(size / 2.56, size / 2.56);
  brush.fillStyle = colours[kind === "silent" ? "paper" : kind];
  brush.strokeStyle = colours[kind === "silent" ? "silent" : isSpiking ? "output" : "paper"];
  brush.lineWidth = 0.22;
  brush.fill(MARKS[kind]);
  brush.stroke(MARKS[kind]);
  const pixels = brush.getImageData(0, 0, side, side);
  sprites.set(key, pixels);
  return pixels;
}

/** Blend a mark into an image around a point. */
function blend(image, mark, x0, y0, alpha) {
  const [left, top] = [Math.round(x0 - mark.width / 2), Math.round(y0 - mark.height / 2)];
  const right = Math.min(mark.width, image.width - left);
  const bottom = Math.min(mark.height, image.height - top);
  const [from, to] = [mark.data, image.data];
  for (let y = Math.max(0, -top); y < bottom; y++) {
    for (let x = Math.max(0, -left); x < right; x++) {
      const f = 4 * (y * mark.width + x);
      const t = 4 * ((top + y) * image.width + left + x);
      const opacity = (alpha * from[f + 3]) / 255;
      for (let c = 0; c < 3; c++) to[t + c] += opacity * (from[f + c] - to[t + c]);
    }
  }
}

/** Write the name of each layer above its frame; lower where it would cover another name. */
function drawLabels(frames) {
  Object.assign(context, {
    font: "13px system-ui, sans-serif", textAlign: "center", fillStyle: colours.output,
    strokeStyle: colours.paper, lineWidth: 4, lineJoin: "round",
  });
  const placed = [];
  frames.forEach((frame, layer) => {
    if (!shown[layer]) return;
    const name = data.names[layer];
    const half = context.measureText(name).width / 2 + 4;
    const x = frame.reduce((sum, corner) => sum + corner[0], 0) / 4;
    let y = Math.max(18, Math.min(...frame.map((corner) => corner[1])) - 12);
    const isCovered = () =>
      placed.some((other) => Math.abs(other.x - x) <= half + other.half && Math.abs(other.y - y) <= 16);
    while (isCovered() && y < canvas.clientHeight - 20) y += 17;
    placed.push({ x, y, half });
    context.strokeText(name, x, y);
    context.fillText(name, x, y);
  });
}

/** Draw the directions of the axes in the lower left corner. */
function drawAxes() {
  const [x0, y0, length] = [46, canvas.clientHeight - 46, 26];
  Object.assign(context, { font: "11px system-ui, sans-serif", fillStyle: colours.silent });
  [turn(1, 0, 0), turn(0, 1, 0), turn(0, 0, 1)].forEach(([right, up], axis) => {
    if (!data.axes[axis] || Math.hypot(right, up) < 0.15) return;
    stroke(new Path2D(`M ${x0} ${y0} l ${length * right} ${-length * up}`), "silent", 1, 1.2);
    context.textAlign = right > 0.3 ? "left" : right < -0.3 ? "right" : "center";
    context.fillText(data.axes[axis], x0 + (length + 6) * right, y0 - (length + 8) * up + 4);
  });
}
