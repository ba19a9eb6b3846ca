// Facts of a neuron, mouse, touch, keys and controls; continues viewer_drawing.js.
// --- facts of a neuron --------------------------------------------------------------------------

const brief = (value) => String(Number(value.toPrecision(3)));

function facts(i) {
  const layer = layerOf[i];
  const kind = { 1: "excitatory", "-1": "inhibitory", 0: "silent", 2: "output" }[kindOf(i)];
  const lines = [`neuron ${numbers[i]}, ${data.names[layer].split(", ")[0]}`];
  lines.push(Number.isNaN(masks[i]) ? `${kind}, no mask` : `${kind}, mask ${masks[i].toFixed(3)}`);
  if (coordinates) {
    const own = Array.from(coordinates.subarray(i * data.dimensions, (i + 1) * data.dimensions), brief);
    lines.push(`position ${own.slice(0, 8).join(", ")}${own.length > 8 ? `, … (${own.length} coordinates)` : ""}`);
  }
  if (data.isProjected || !coordinates) {
    lines.push(`drawn at ${Array.from(positions.subarray(3 * i, 3 * i + 3), brief).join(", ")}`);
  }
  const count = (ends) => ends.reduce((sum, end) => sum + (end === i), 0);
  lines.push(`synapses drawn: ${count(targets)} in, ${count(sources)} out`);
  if (activity && i < active) {
    if (layer === 0 && data.activity.isCurrent) {
      lines.push(`input ${brief(activity[i] / 255)} of its range`);
    } else {
      const spikes = [];
      for (let t = 0; t < data.activity.steps; t++) if (activity[t * active + i]) spikes.push(t + 1);
      lines.push(spikes.length ? `spikes in steps ${spikes.join(", ")}` : "no spike");
    }
  }
  return lines;
}

function nearest(x, y, reach) {
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < n; i++) {
    if (!shown[layerOf[i]]) continue;
    const away = (screenX[i] - x) ** 2 + (screenY[i] - y) ** 2 - 6 * depth[i];
    if (away < least) {
      least = away;
      best = i;
    }
  }
  return best;
}

const tip = element("tip");
function hover(x, y, reach = 12) {
  const before = hovered;
  hovered = nearest(x, y, reach);
  tip.hidden = hovered < 0;
  if (hovered >= 0) {
    tip.textContent = facts(hovered).join("\n");
    const inside = (at, room) => `${Math.max(6, Math.min(at + 18, room - 6))}px`;
    tip.style.left = inside(screenX[hovered], canvas.clientWidth - tip.offsetWidth);
    tip.style.top = inside(screenY[hovered], canvas.clientHeight - tip.offsetHeight);
  }
  if (hovered !== before) ask();
}

function pick(i) {
  picked = i;
  element("picked").textContent = i < 0 ? "" : facts(i).join("; ");
  ask();
}

// --- mouse, touch, keys ------------------------------------------------------------------------

const pointers = new Map();
let moved = 0;

const spot = (event) => [event.offsetX, event.offsetY];

function leave() {
  tip.hidden = true;
  if (hovered >= 0) ask();
  hovered = -1;
}

function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const zoom = Math.max(0.2, Math.min(60, view.zoom * factor));
  const done = zoom / view.zoom;
  view.panX = (x - canvas.clientWidth / 2) * (1 - done) + view.panX * done;
  view.panY = (y - canvas.clientHeight / 2) * (1 - done) + view.panY * done;
  view.zoom = zoom;
  ask();
}

function rotateBy(yaw, pitch) {
  view.yaw += yaw;
  view.pitch = Math.max(-1.57, Math.min(1.57, view.pitch + pitch));
  ask();
}

function panBy(x, y) {
  view.panX += x;
  view.panY += y;
  ask();
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, spot(event));
  moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const at = spot(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    hover(...at);
    return;
  }
  const [dx, dy] = [at[0] - before[0], at[1] - before[1]];
  moved += Math.abs(dx) + Math.abs(dy);
  const other = [...pointers].find(([id]) => id !== event.pointerId);
  pointers.set(event.pointerId, at);
  if (other) {
    const [x, y] = other[1];
    panBy(dx / 2, dy / 2);
    const was = Math.hypot(before[0] - x, before[1] - y);
    if (was > 5) zoomBy(Math.hypot(at[0] - x, at[1] - y) / was, (at[0] + x) / 2, (at[1] + y) / 2);
  } else if (event.shiftKey || event.buttons & 6) panBy(dx, dy);
  else rotateBy(dx * 0.008, dy * 0.008);
  leave();
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    pointers.delete(event.pointerId);
    if (kind === "pointerup" && moved < 4) {
      const found = nearest(...spot(event), event.pointerType === "touch" ? 22 : 12);
      pick(found === picked ? -1 : found);
    }
  });
}
canvas.addEventListener("pointerleave", leave);
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...spot(event));
}, { passive: false });
canvas.addEventListener("dblclick", reset);

function neighbour(by) {
  let i = picked < 0 ? (by > 0 ? -1 : n) : picked;
  for (let tried = 0; tried < n; tried++) {
    i = (i + by + n) % n;
    if (shown[layerOf[i]]) return i;
  }
  return -1;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrow && event.shiftKey) panBy(24 * arrow[0], 24 * arrow[1]);
  else if (arrow) rotateBy(0.09 * arrow[0], 0.09 * arrow[1]);
  else if (event.key === "+" || event.key === "=") zoomBy(1.2);
  else if (event.key === "-" || event.key === "_") zoomBy(1 / 1.2);
  else if (event.key === "0" || event.key === "Home") reset();
  else if (event.key === "]" || event.key === "n") pick(neighbour(1));
  else if (event.key === "[" || event.key === "p") pick(neighbour(-1));
  else if (event.key === "Escape") pick(-1);
  else if (event.key === " " && activity) play();
  else return;
  event.preventDefault();
}
canvas.addEventListener("keydown", onKey);

/** The first angle, and so near that the layers fill the canvas. */
function reset() {
  Object.assign(view, { yaw: data.view[0], pitch: data.view[1], zoom: 1, panX: 0, panY: 0 });
  const eye = camera();
  const seenAt = boxes.flatMap(([low, high, near, far, , first, last], layer) =>
    [first, last].flatMap((x) => [low, high].flatMap((y) => [near, far].map((z) => project(eye, x + offset(layer), y, z)))));
  const [[left, right], [top, bottom]] = [0, 1].map((axis) => bounds(seenAt.map((at) => at[axis])));
  const zoom = Math.min((0.86 * eye.width) / (right - left + 1), (0.72 * eye.height) / (bottom - top + 1));
  view.zoom = Math.max(0.2, Math.min(60, zoom));
  view.panX = view.zoom * (eye.width / 2 - (left + right) / 2);
  view.panY = view.zoom * (eye.height / 2 - (top + bottom) / 2) + 0.02 * eye.height;
  closeness = view.zoom;
  ask();
}

// --- controls ----------------------------------------------------------------------------------

function slider(id, act) {
  const input = element(id);
  if (input) input.addEventListener("input", () => act(Number(input.value)));
}

slider("apart", (value) => {
  apart = value / 100;
  seen = extent();
  reset();
});
function showShare(value) {
  share = value / 100;
  const count = data.links.reduce((sum, links) => sum + Math.round(share * links), 0);
  element("links-said").textContent = `${count.toLocaleString("en")} shown`;
  ask();
}
slider("links", showShare);
for (const box of document.querySelectorAll("[data-layer]")) {
  box.addEventListener("change", () => {
    shown[Number(box.dataset.layer)] = box.checked;
    ask();
  });
}
element("reset").addEventListener("click", reset);

function show(next) {
  step = next;
  element("time").value = String(step);
  let spikes = 0;
  for (let i = data.activity.isCurrent ? data.drawn[0] : 0; i < active; i++) {
    for (let t = 0; t < data.activity.steps; t++) if (!step || t + 1 === step) spikes += activity[t * active + i] > 0;
  }
  const when = step ? `step ${step} of ${data.activity.steps}` : `all ${data.activity.steps} steps`;
  element("time-said").textContent = `${when}: ${spikes.toLocaleString("en")} spikes`;
  if (picked >= 0) element("picked").textContent = facts(picked).join("; ");
  ask();
}

function play() {
  isPlaying = !isPlaying;
  element("play").textContent = isPlaying ? "Pause" : "Play";
  if (isPlaying) advance();
}

function advance() {
  if (!isPlaying) return;
  show((step % data.activity.steps) + 1);
  setTimeout(advance, 450);
}

if (activity) {
  slider("time", (value) => show(value));
  element("play").addEventListener("click", play);
  show(1);
}

// --- begin -------------------------------------------------------------------------------------

element("viewer").hidden = false;
readColours();
showShare(100);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  ask();
});
new ResizeObserver(ask).observe(canvas);
reset();
draw();
