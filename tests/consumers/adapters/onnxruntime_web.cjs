// onnxruntime-web: onnxruntime as WebAssembly, here under node. What `protocol.py` does, for its one user in JavaScript.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const ort = require("onnxruntime-web");

const answers = Number(process.argv[2]);

async function run(job) {
  const session = await ort.InferenceSession.create(fs.readFileSync(job.model), { executionProviders: ["wasm"] });
  const [first, ...states] = job.inputs;
  const rows = job.batch_size || job.x.length;
  const steps = Array.from({ length: job.steps || 1 }, () => []);
  const tensor = (values, size) => new ort.Tensor("float32", Float32Array.from(values), [rows, size]);
  for (let start = 0; start < job.x.length; start += rows) {
    const feeds = { [first.name]: tensor(job.x.slice(start, start + rows).flat(), first.size) };
    for (const each of states) {
      feeds[each.name] = tensor(new Array(rows * each.size).fill(0), each.size);
    }
    for (const step of steps) {
      const results = await session.run(feeds);
      const [y, ...next] = job.outputs.map((each) => results[each.name]);
      const size = y.data.length / rows;
      for (let row = 0; row < rows; row++) step.push(Array.from(y.data.slice(row * size, (row + 1) * size)));
      states.forEach((each, index) => (feeds[each.name] = next[index]));
    }
  }
  return steps;
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      answer = { y: await run(JSON.parse(line)) };
    } catch (error) {
      answer = { refused: String(error.message || error).split("\n") };
    }
    fs.writeSync(answers, JSON.stringify(answer) + "\n");
  }
}

main();
