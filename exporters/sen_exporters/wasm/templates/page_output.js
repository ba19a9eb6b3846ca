// Output of the demo page, by the task of the network.

const MAX_BARS = 12;

const softmax = (values) => {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
};

/** Probabilities of classes or labels, shares of spikes of classes; null for values. */
function probabilities(outputs) {
  const isFinished = (model.properties.output_activation ?? "none") !== "none";
  if (isFinished) return outputs;
  if (model.task === "multilabel") return outputs.map((value) => 1 / (1 + Math.exp(-value)));
  if (model.task !== "classification") return null;
  if (model.readout !== "spike_count") return softmax(outputs);
  const sum = outputs.reduce((a, b) => a + b, 0);
  return outputs.map((count) => count / (sum || 1));
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function showOutputs(outputs, raw) {
  const found = model.decide(outputs);
  const area = element("outputs");
  area.replaceChildren();
  if (model.task === "reconstruction") showReconstruction(area, outputs, raw);
  else if (found === null) showValues(area, outputs);
  else {
    element("decision").textContent = Array.isArray(found) ? found.join(", ") || "no label" : found;
    showBars(area, probabilities(outputs), new Set([found].flat()));
  }
}

/** A bar for each class or label; the highest ones of many. */
function showBars(area, levels, best) {
  const bars = add(area, "div", { className: "bars" });
  let order = Array.from(levels.keys());
  if (order.length > MAX_BARS) order = order.sort((a, b) => levels[b] - levels[a]).slice(0, MAX_BARS);
  for (const i of order) {
    const mark = best.has(model.classes[i]) ? " best" : "";
    add(bars, "div", { className: `name${mark}`, textContent: model.classes[i], title: model.classes[i] });
    add(add(bars, "div", { className: `bar${mark}` }), "div").style.width = `${100 * levels[i]}%`;
    add(bars, "div", { className: `value${mark}`, textContent: percent(levels[i]) });
  }
  if (levels.length > order.length) add(area, "p", { className: "hint", textContent: `the highest of ${levels.length}` });
}

function showValues(area, outputs) {
  element("decision").textContent = outputs.length === 1 ? `${model.classes[0]}: ${outputs[0].toPrecision(5)}` : "";
  if (outputs.length === 1) return;
  const table = add(add(area, "table", { className: "text" }), "tbody");
  outputs.forEach((value, i) => {
    const row = add(table, "tr");
    add(row, "th", { textContent: model.classes[i] });
    add(row, "td", { textContent: value.toPrecision(5) });
  });
}

/** The mean squared error, in units of the standardized input where there are any, and the image. */
function showReconstruction(area, outputs, raw) {
  const error = outputs.reduce((sum, value, i) => sum + ((value - raw[i]) / (data.std[i] ?? 1)) ** 2, 0) / outputs.length;
  element("decision").textContent = `anomaly score ${error.toPrecision(3)}`;
  add(area, "p", { className: "hint", textContent: "mean squared error of the reconstruction" });
  if (data.form !== "image") return;
  const canvas = add(area, "canvas", { id: "rebuilt", width: data.side, height: data.side, title: "reconstruction" });
  const image = new ImageData(data.side, data.side);
  outputs.forEach((_, i) => {
    const gray = 255 * inRange(outputs, i);
    image.data.set([gray, gray, gray, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}
