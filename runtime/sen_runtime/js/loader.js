// Runs a network that `sen-edge export --to wasm` wrote, in browsers, workers and node. No dependencies.
//
//   const model = await load("net.wasm");
//   const outputs = model.run(new Float32Array(model.inputLength));

const SECTION = "sen_edge";

/** Texts under `name` in the properties, or the numbers 0 to n - 1 where there are not n of them. */
function namesOf(properties, name, n) {
  try {
    const found = JSON.parse(properties[name] ?? "[]");
    if (Array.isArray(found) && found.length === n) return found.map(String);
  } catch {
    // no JSON: no names
  }
  return Array.from({ length: n }, (_, index) => String(index));
}

/** A loaded network. One inference runs at a time; a spiking network holds one stream. */
export class Model {
  constructor(instance, properties, allowsNonfinite) {
    const wasm = (this.wasm = instance.exports);
    const isModule = ["initialize", "input", "output", "run", "layer"].every((name) => wasm[name] instanceof Function);
    if (!isModule || !(wasm.memory instanceof WebAssembly.Memory)) {
      throw new Error("the WebAssembly module was not exported by sen-edge");
    }
    wasm.initialize();
    this.properties = properties;
    this.allowsNonfinite = allowsNonfinite;
    this.features = namesOf(properties, "feature_names", wasm.features());
    this.classes = namesOf(properties, "output_names", wasm.outputs());
    this.task = properties.task ?? "classification";
    this.timesteps = wasm.timesteps();
    this.layers = wasm.layers();
    this.inputLength = wasm.input_length();
    this.outputLength = wasm.outputs();
    this.readout = this.timesteps ? properties.readout : "";
    this.isSequence = ["spikes", "current", "delta"].includes(properties.input_coding);
    this.input = new Float32Array(wasm.memory.buffer, wasm.input(), this.inputLength);
    this.output = new Float32Array(wasm.memory.buffer, wasm.output(), this.outputLength);
  }

  /** Outputs of one input. */
  run(x) {
    this.write(x, this.inputLength);
    this.wasm.run();
    return this.output.slice();
  }

  /** Outputs of a batch, one input after the other: `[rows * inputLength]` to `[rows * outputLength]`. */
  runBatch(x) {
    const rows = x.length / this.inputLength;
    if (!Number.isInteger(rows)) {
      throw new RangeError(`the batch has ${x.length} values; expected a multiple of ${this.inputLength}`);
    }
    const outputs = new Float32Array(rows * this.outputLength);
    for (let row = 0; row < rows; row++) {
      this.write(x.slice(row * this.inputLength, (row + 1) * this.inputLength), this.inputLength, row);
      this.wasm.run();
      outputs.set(this.output, row * this.outputLength);
    }
    return outputs;
  }

  /** Set the membranes of a spiking network to 0, before the first step. */
  reset() {
    this.requireSteps();
    this.wasm.reset();
  }

  /** One time step: the membranes of the last layer, or its spikes where the readout counts them. */
  step(x) {
    this.requireSteps();
    this.write(x, this.features.length);
    this.wasm.step();
    return this.output.slice();
  }

  /** Outputs of `run` from the mean, the last or the sum of the values of `step`, by the readout. */
  finish(values) {
    this.requireSteps();
    if (values.length !== this.outputLength) {
      throw new RangeError(`the readout has ${values.length} values; expected ${this.outputLength}`);
    }
    this.output.set(values);
    this.wasm.finish?.();
    return this.output.slice();
  }

  /** Activations of a layer in the last run, or its spikes in the last step; null for the last layer. */
  layerOutput(index) {
    const at = this.wasm.layer(index);
    return at ? new Float32Array(this.wasm.memory.buffer, at, this.wasm.layer_size(index)).slice() : null;
  }

  /** Name of the class with the largest output, or the names of the labels that hold; null for values. */
  decide(outputs) {
    if (this.task === "classification") return this.classes[outputs.indexOf(Math.max(...outputs))];
    if (this.task !== "multilabel") return null;
    const threshold = this.properties.output_activation === "sigmoid" ? 0.5 : 0;
    return this.classes.filter((_, index) => outputs[index] > threshold);
  }

  /** Take over an input of `length` numbers, a row of a batch. */
  write(x, length, row = 0) {
    if (x?.length !== length) throw new RangeError(`the input has ${x?.length ?? "no"} values; expected ${length}`);
    this.input.set(x);
    if (this.allowsNonfinite) return;
    for (let i = 0; i < length; i++) {
      if (Number.isFinite(this.input[i])) continue;
      throw new RangeError(`the input at ${row * length + i} is ${this.input[i]}; expected finite numbers within float32`);
    }
  }

  requireSteps() {
    if (!this.timesteps) throw new Error("the network is not spiking, so it has no steps");
  }
}

/**
 * Load a network from the bytes of a file (an ArrayBuffer or a view), a Response, or a URL; in node also a path.
 * Inputs that are NaN or infinite are errors, unless `allowNonfinite`.
 */
export async function load(source, { allowNonfinite = false } = {}) {
  let module;
  try {
    module = await WebAssembly.compile(await bytesOf(source));
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    throw new Error(`not a WebAssembly file, or this engine lacks SIMD (${error.message})`, { cause: error });
  }
  const sections = WebAssembly.Module.customSections(module, SECTION);
  if (sections.length !== 1) throw new Error("the WebAssembly module was not exported by sen-edge");
  const properties = JSON.parse(new TextDecoder().decode(sections[0]));
  return new Model(await WebAssembly.instantiate(module, {}), properties, allowNonfinite);
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  if (typeof Response !== "undefined" && source instanceof Response) return received(source);
  if (typeof source !== "string" && !(source instanceof URL)) {
    throw new TypeError("expected the bytes of a file, a Response, or a URL");
  }
  const isPath = globalThis.process?.versions?.node && !/^(https?|data|blob):/.test(source);
  if (!isPath) return received(await fetch(source));
  const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
  return readFile(/^file:/.test(source) ? new URL(source) : source);
}

async function received(response) {
  if (!response.ok) throw new Error(`${response.url}: HTTP status ${response.status}`);
  return response.arrayBuffer();
}
