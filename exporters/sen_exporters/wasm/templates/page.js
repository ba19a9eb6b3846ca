// The demo page: latency, activity, spikes. Continues loader.js, the scripts of the view, page_input.js and
// page_output.js.

// --- activity ------------------------------------------------------------------------------------

const shareOf = (value, largest) => Math.max(0, Math.min(1, largest > 0 ? value / largest : 0));

/** Write the levels of a layer, 0 to 1 by the number of a neuron, into a frame. */
function fill(frame, layer, level) {
  for (let i = data.neurons[layer]; i < data.neurons[layer + 1]; i++) frame[i] = Math.round(255 * level(numbers[i]));
}

/** Where a value lies in the range of its feature. */
function inRange(values, i) {
  const [low, high] = rangeOf(i);
  return shareOf(values[i] - low, high - low);
}

/** Level of an output: a probability, a reconstruction within the range of its feature, or a share of the largest. */
function outputLevel(outputs) {
  if (model.task === "reconstruction") return (i) => inRange(outputs, i);
  const levels = probabilities(outputs) ?? outputs.map(Math.abs);
  const largest = Math.max(...levels);
  return (i) => shareOf(levels[i], largest);
}

/** Spikes at the first layer in a step, of a coding that the page can show; else the level of the input. */
function inputLevel(raw, t) {
  if (!model.isSequence) return (i) => inRange(raw, i);
  const now = raw.subarray(t * size, (t + 1) * size);
  const before = t ? raw.subarray((t - 1) * size, t * size) : now;
  if (!data.delta) return (i) => (data.isBinary ? now[i] : inRange(now, i));
  return (i) => Number(i < size ? now[i] - before[i] >= data.delta : before[i - size] - now[i - size] >= data.delta);
}

/** Run all steps: the spikes of each layer, `[layer][step]`. */
function trace(given) {
  const spikes = Array.from({ length: model.layers }, () => []);
  model.reset();
  for (let t = 0; t < model.timesteps; t++) {
    const y = model.step(model.isSequence ? given.subarray(t * size, (t + 1) * size) : given);
    spikes.forEach((steps, layer) => steps.push(model.layerOutput(layer) ?? y));
  }
  return spikes;
}

function light(raw, given, outputs) {
  const frames = new Uint8Array((model.timesteps + 1) * n);
  if (!model.timesteps) {
    fill(frames, 0, (i) => inRange(raw, i));
    for (let layer = 0; layer < model.layers - 1; layer++) {
      const values = model.layerOutput(layer);
      const largest = Math.max(...values);
      fill(frames, layer + 1, (i) => shareOf(values[i], largest));
    }
    fill(frames, layers - 1, outputLevel(outputs));
  } else lightSteps(frames, raw, trace(given), outputs);
  activity = frames;
  active = n;
  update();
}

function lightSteps(frames, raw, spikes, outputs) {
  const steps = Array.from({ length: model.timesteps }, (_, t) => frames.subarray((t + 1) * n, (t + 2) * n));
  steps.forEach((frame, t) => {
    fill(frame, 0, inputLevel(raw, t));
    spikes.forEach((train, layer) => {
      const isMembrane = data.isMembrane && layer === model.layers - 1;
      fill(frame, layer + 1, isMembrane ? outputLevel(outputs) : (i) => train[t][i]);
    });
  });
  for (let i = 0; i < n; i++) frames[i] = Math.round(steps.reduce((sum, frame) => sum + frame[i], 0) / steps.length);
  const trains = data.isMembrane ? spikes.slice(0, -1) : spikes;
  const count = (t) => trains.reduce((sum, train) => sum + train[t].reduce((a, b) => a + b, 0), 0);
  data.spikes = [0, ...steps.map((_, t) => count(t))];
  data.spikes[0] = data.spikes.reduce((sum, value) => sum + value);
  drawRaster(steps);
}

/** Draw the spikes of up to 80 neurons of each layer: steps to the right. */
function drawRaster(steps) {
  const [raster, ratio, height, gap] = [element("raster"), Math.min(2, devicePixelRatio || 1), 3, 22];
  const shownLayers = data.names.map((name, layer) => [name, layer]).filter(([, layer]) => hasSpikes(layer));
  const rows = shownLayers.map(([, layer]) => {
    const [first, count] = [data.neurons[layer], data.neurons[layer + 1] - data.neurons[layer]];
    return Array.from({ length: Math.min(80, count) }, (_, row) => first + Math.floor((row * count) / Math.min(80, count)));
  });
  const width = raster.clientWidth || 600;
  const total = rows.reduce((sum, neurons) => sum + gap + height * neurons.length, 8);
  Object.assign(raster, { width: width * ratio, height: total * ratio });
  raster.style.height = `${total}px`;
  const brush = raster.getContext("2d");
  brush.scale(ratio, ratio);
  brush.fillStyle = colours.paper;
  brush.fillRect(0, 0, width, total);
  brush.font = "12px system-ui, sans-serif";
  const column = (width - 16) / steps.length;
  let y = 0;
  rows.forEach((neurons, index) => {
    brush.fillStyle = colours.silent;
    brush.fillText(`${shownLayers[index][0]}${neurons.length < 80 ? "" : ": 80 of them"}`, 8, y + 15);
    y += gap;
    for (const i of neurons) {
      brush.fillStyle = colours[KINDS[kinds[i]]];
      steps.forEach((frame, t) => frame[i] && brush.fillRect(8 + t * column, y, Math.max(1, column - 1), height - 1));
      y += height;
    }
  });
}

// --- latency -------------------------------------------------------------------------------------

const MAX_RUNS = 1024;

/** Median latency in milliseconds, of five measurements of 10 ms, as clocks of browsers are coarse, or `MAX_RUNS`. */
function measure(given) {
  const samples = [];
  for (let runs = 1; samples.length < 5; ) {
    const start = performance.now();
    for (let run = 0; run < runs; run++) model.run(given);
    const passed = performance.now() - start;
    if (passed < 10 && runs < MAX_RUNS) runs *= 2;
    else samples.push(passed / runs);
  }
  return samples.sort((a, b) => a - b)[2];
}

function showLatency(given) {
  const ms = measure(given);
  if (!ms) return; // a clock that stands still
  const text = ms < 1 ? `${(1000 * ms).toPrecision(3)} µs` : `${ms.toPrecision(3)} ms`;
  element("latency").textContent = `${text} for one inference here, on one thread (median).`;
}

// --- all together --------------------------------------------------------------------------------

let waiting = 0;

/** Run the network on raw values, and show what it computes. */
function infer(raw) {
  const { mean, std } = data;
  const given = data.isLeftToCaller ? raw.map((value, i) => (value - mean[i % size]) / std[i % size]) : raw;
  try {
    const outputs = model.run(given);
    showOutputs(outputs, raw);
    light(raw, given, outputs);
    element("complaint").textContent = "";
  } catch (error) {
    element("complaint").textContent = error.message;
    return;
  }
  clearTimeout(waiting);
  waiting = setTimeout(showLatency, 250, given);
}

element("metadata").replaceChildren(...Object.entries(model.properties).map(([name, value]) => {
  const row = document.createElement("tr");
  for (const [tag, text] of [["th", name], ["td", value.length > 300 ? `${value.slice(0, 300)} …` : value]]) {
    row.appendChild(document.createElement(tag)).textContent = text;
  }
  return row;
}));
start();
