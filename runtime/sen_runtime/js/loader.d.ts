/** A loaded network. One inference runs at a time; a spiking network holds one stream. */
export class Model {
  private constructor();
  /** Metadata of the file: task, names, preprocessing, producer, verification. */
  readonly properties: Readonly<Record<string, string>>;
  readonly task: "classification" | "multilabel" | "regression" | "reconstruction";
  /** Names of the outputs, or their numbers. */
  readonly classes: readonly string[];
  /** Names of the values of an input (of each step of a sequence), or their numbers. */
  readonly features: readonly string[];
  /** Values of an input of `run`. */
  readonly inputLength: number;
  readonly outputLength: number;
  /** Whether an input of `run` is a sequence of `timesteps` steps. */
  readonly isSequence: boolean;
  /** Layers with weights. */
  readonly layers: number;
  /** Time steps of a spiking network; else 0. */
  readonly timesteps: number;
  readonly readout: "" | "mean_membrane" | "last_membrane" | "spike_count";
  /** Outputs `[outputLength]` of one input `[inputLength]`. Throws a RangeError for another length, NaN or infinity. */
  run(x: ArrayLike<number>): Float32Array;
  /** Outputs of a batch, one input after the other: `[rows * inputLength]` to `[rows * outputLength]`. */
  runBatch(x: Float32Array | number[]): Float32Array;
  /** Set the membranes of a spiking network to 0, before the first step. */
  reset(): void;
  /** One time step `[features]`: the membranes of the last layer, or its spikes where the readout counts them. */
  step(x: ArrayLike<number>): Float32Array;
  /** Outputs of `run` from the mean, the last or the sum of the values of `step`, by the readout. */
  finish(values: ArrayLike<number>): Float32Array;
  /** Activations of a layer in the last run, or its spikes in the last step; null for the last layer. */
  layerOutput(index: number): Float32Array | null;
  /** Name of the class with the largest output, or the names of the labels that hold; null for values. */
  decide(outputs: Float32Array): string | string[] | null;
}

/**
 * Load a network from the bytes of a file, a Response, or a URL; in node also a path.
 * Inputs that are NaN or infinite are errors, unless `allowNonfinite`.
 */
export function load(
  source: ArrayBuffer | ArrayBufferView | Response | URL | string,
  options?: { allowNonfinite?: boolean },
): Promise<Model>;
