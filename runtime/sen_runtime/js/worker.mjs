// Runs a network for the engine `node`: requests on stdin, answers on stdout, little endian.
//
// A request is a code and the number of values, uint32 each, and the values: the bytes of the file for the first,
// then float32. An answer is a status, 0 or 1, and a number of bytes: JSON after the first request, float32, or the
// text of an error.

import { readSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { load } from "./loader.js";

const [LOAD, RUN, TRACE, RESET, STEP, FINISH] = [0, 1, 2, 3, 4, 5];

/** Read exactly `size` bytes; end with the parent. */
function read(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; ) {
    const count = readSync(0, bytes, at, size - at);
    if (!count) process.exit(0);
    at += count;
  }
  return bytes;
}

function answer(status, bytes) {
  const message = new Uint8Array(8 + bytes.byteLength);
  new Uint32Array(message.buffer, 0, 2).set([status, bytes.byteLength]);
  message.set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength), 8);
  for (let at = 0; at < message.length; ) at += writeSync(1, message, at);
}

const encode = (text) => new TextEncoder().encode(text);

function join(arrays) {
  const joined = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    joined.set(array, at);
    at += array.length;
  }
  return joined;
}

/** Outputs, and activations of all hidden layers; spikes are counted. */
function trace(model, x) {
  const outputs = model.run(x);
  const hidden = Array.from({ length: model.layers - 1 }, (_, index) => index);
  if (!model.timesteps) return join([outputs, ...hidden.map((index) => model.layerOutput(index))]);
  const counts = hidden.map((index) => new Float32Array(model.wasm.layer_size(index)));
  model.reset();
  const n = model.features.length;
  for (let t = 0; t < model.timesteps; t++) {
    model.step(model.isSequence ? x.subarray(t * n, (t + 1) * n) : x);
    counts.forEach((count, index) => model.layerOutput(index).forEach((spike, i) => (count[i] += spike)));
  }
  return join([outputs, ...counts]);
}

function describe(model) {
  const hidden = Array.from({ length: model.layers - 1 }, (_, index) => model.wasm.layer_size(index));
  const { inputLength, outputLength, timesteps, isSequence, features } = model;
  return encode(JSON.stringify({ inputLength, outputLength, timesteps, isSequence, features: features.length, hidden }));
}

// While a module runs, the end of stdin is not seen: end with the parent all the same.
const watch = "const { ppid } = process; setInterval(() => process.ppid === ppid || process.kill(process.pid, 'SIGKILL'), 1000)";
new Worker(watch, { eval: true });

let model;
for (;;) {
  const [code, count] = new Uint32Array(read(8).buffer);
  const bytes = read(code === LOAD ? count : 4 * count);
  try {
    if (code === LOAD) {
      model = await load(bytes, { allowNonfinite: process.argv[2] === "allow-nonfinite" });
      answer(0, describe(model));
      continue;
    }
    const x = new Float32Array(bytes.buffer);
    if (code === RUN) answer(0, model.runBatch(x));
    else if (code === TRACE) answer(0, trace(model, x));
    else if (code === STEP) answer(0, model.step(x));
    else if (code === FINISH) answer(0, model.finish(x));
    else if (code === RESET) answer(0, (model.reset(), new Uint8Array()));
  } catch (error) {
    answer(1, encode(String(error?.message ?? error)));
  }
}
