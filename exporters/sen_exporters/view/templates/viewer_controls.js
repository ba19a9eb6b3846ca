// Description and selection of neurons, pointers, keys and controls; continues viewer_drawing.js.

// --- selection -----------------------------------------------------------------------------------

const round = (value) => String(Number(value.toPrecision(3)));

/** What is known about a neuron, line by line. */
function describe(i) {
  const layer = layerOf[i];
  const row = (array, width) => Array.from(array.subarray(i * width, (i + 1) * width), round).join(", ");
  const known = coordinates.length / n;
  const count = (ends) => ends.reduce((sum, end) => sum + (end === i), 0);
  const label = data.labels[layer]?.[i - data.neurons[layer]];
  const lines = [
    `neuron ${numbers[i]}${label === undefined ? "" : ` (${label})`}, ${data.names[layer].split(", ")[0]}`,
    `${KINDS[kinds[i]]}, ${Number.isNaN(masks[i]) ? "no mask" : `mask ${masks[i].toFixed(3)}`}`,
  ];
  if (known) lines.push(`position ${row(coordinates, known)}${known < data.dimensions ? `, … (${data.dimensions} coordinates)` : ""}`);
  if (data.dimensions > 3) lines.push(`drawn at ${row(positions, 3)}`);
  lines.push(`synapses drawn: ${count(targets)} in, ${count(sources)} out`);
  if (i < active && layer === 0 && data.isCurrent) lines.push(`input ${round(activity[i] / 255)} of its range`);
  else if (i < active && (!data.steps || !hasSpikes(layer))) lines.push(`activity ${round(activity[i] / 255)} of the largest in its layer`);
  else if (i < active) {
    const spikes = Array.from({ length: data.steps }, (_, t) => t + 1).filter((t) => activity[t * active + i]);
    lines.push(spikes.length ? `spikes in steps ${spikes.join(", ")}` : "no spike");
  }
  return lines;
}

/** The visible neuron within `reach` pixels of a point, or -1; nearer ones first. */
function neuronAt([x, y], reach = 12) {
  let [best, min] = [-1, reach * reach];
  for (let i = 0; i < n; i++) {
    const distance = (screenX[i] - x) ** 2 + (screenY[i] - y) ** 2 - 6 * nearness[i];
    if (shown[layerOf[i]] && distance < min) [best, min] = [i, distance];
  }
  return best;
}

function hover(i) {
  if (i !== hovered) redraw();
  hovered = i;
  const tip = element("tip");
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.textContent = describe(i).join("\n");
  tip.style.left = `${Math.max(6, Math.min(screenX[i] + 18, canvas.clientWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${Math.max(6, Math.min(screenY[i] + 18, canvas.clientHeight - tip.offsetHeight - 6))}px`;
}

function pick(i) {
  picked = i;
  element("picked").textContent = i < 0 ? "" : describe(i).join("; ");
  redraw();
}

/** Select the next or previous visible neuron. */
function pickNext(by) {
  const visible = Array.from(numbers.keys()).filter((i) => shown[layerOf[i]]);
  const at = visible.indexOf(picked);
  pick(visible.at(at < 0 && by < 0 ? -1 : (at + by) % visible.length) ?? -1);
}

// --- pointers and keys ---------------------------------------------------------------------------

const pointers = new Map();
let moved = 0;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const to = [event.offsetX, event.offsetY];
  const from = pointers.get(event.pointerId);
  if (!from) {
    hover(neuronAt(to));
    return;
  }
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  moved += Math.abs(dx) + Math.abs(dy);
  pointers.set(event.pointerId, to);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    panBy(dx / 2, dy / 2);
    if (distance(from) > 5) zoomBy(distance(to) / distance(from), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
  } else if (event.shiftKey || event.buttons & 6) panBy(dx, dy);
  else rotateBy(dx * 0.008, dy * 0.008);
  hover(-1);
});
canvas.addEventListener("pointerup", (event) => {
  if (moved >= 4) return;
  const found = neuronAt([event.offsetX, event.offsetY], event.pointerType === "touch" ? 22 : 12);
  pick(found === picked ? -1 : found);
});
canvas.addEventListener("lostpointercapture", (event) => pointers.delete(event.pointerId));
canvas.addEventListener("pointerleave", () => hover(-1));
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("dblclick", reset);
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
}, { passive: false });

const move = (x, y) => (event) => (event.shiftKey ? panBy(24 * x, 24 * y) : rotateBy(0.09 * x, 0.09 * y));
const KEYS = {
  ArrowLeft: move(-1, 0), ArrowRight: move(1, 0), ArrowUp: move(0, -1), ArrowDown: move(0, 1),
  "+": () => zoomBy(1.2), "=": () => zoomBy(1.2), "-": () => zoomBy(1 / 1.2), _: () => zoomBy(1 / 1.2),
  0: reset, Home: reset, "]": () => pickNext(1), "[": () => pickNext(-1), Escape: () => pick(-1), " ": play,
};
canvas.addEventListener("keydown", (event) => {
  if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  KEYS[event.key](event);
  event.preventDefault();
});

// --- controls ------------------------------------------------------------------------------------

/** Take over the state of all controls. */
function update() {
  apart = element("apart").value / 100;
  share = element("links").value / 100;
  const counts = data.synapses.slice(1).map((end, layer) => Math.round(share * (end - data.synapses[layer])));
  element("links-said").textContent = `${counts.reduce((sum, count) => sum + count, 0).toLocaleString("en")} shown`;
  document.querySelectorAll("[data-layer]").forEach((box) => (shown[box.dataset.layer] = box.checked));
  if (data.steps) {
    step = Number(element("time").value);
    const when = step ? `step ${step} of ${data.steps}` : `all ${data.steps} steps`;
    element("time-said").textContent = `${when}: ${data.spikes[step].toLocaleString("en")} spikes`;
  }
  redraw();
}

function next() {
  element("time").value = (step % data.steps) + 1;
  update();
}

function play() {
  if (!data.steps) return;
  if (timer) timer = clearInterval(timer) ?? 0;
  else timer = setInterval(next, 450);
  element("play").textContent = timer ? "Pause" : "Play";
}

element("viewer").hidden = false;
element("viewer").addEventListener("input", update);
element("play")?.addEventListener("click", play);
element("reset").addEventListener("click", reset);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
new ResizeObserver(redraw).observe(canvas);
update();
readColours();
reset();
