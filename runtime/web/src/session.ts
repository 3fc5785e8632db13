import { GossamerError, show } from "./errors.js";
import { checkFeeds, type Feeds } from "./feeds.js";
import { embeddedWeights, findEntry, instantiate, type Entry } from "./instance.js";
import { loadCode, loadWeights } from "./loading.js";
import { readManifest, type CodeFile, type Manifest, type TensorSpec } from "./manifest.js";
import { layout, reserve, type Layout } from "./memory.js";
import { openSource, readAll, type Files, type Source } from "./source.js";
import { arrayOf, Tensor, type DataType } from "./tensor.js";
import { chooseCode, type Variant } from "./variant.js";

/** How to open an artifact. */
export interface SessionOptions {
  /** Run this build of the code instead of the fastest that the engine takes. */
  readonly variant?: Variant;
  /** Told of bytes of code and weights as they arrive. */
  readonly onProgress?: (received: number, total: number) => void;
  /** Called after every kernel of a run, for profiles. */
  readonly onKernel?: () => void;
}

/** Name, element type and shape of an input or output. */
export interface ValueMetadata {
  readonly name: string;
  readonly isTensor: true;
  readonly type: DataType;
  readonly shape: readonly number[];
}

interface Model {
  readonly manifest: Manifest;
  readonly code: CodeFile;
  readonly place: Layout;
  readonly memory: WebAssembly.Memory;
  readonly entry: Entry;
  readonly weights: number;
  readonly sync: number;
  readonly verified: boolean;
  readonly bytes: number;
}

const MANIFEST_LIMIT = 64 * 2 ** 20;

async function open(source: Source, options: SessionOptions, abort: AbortController): Promise<Model> {
  const json = await readAll(source, "manifest.json", MANIFEST_LIMIT, abort.signal);
  const manifest = readManifest(json);
  const code = chooseCode(manifest, source, options.variant);
  const place = layout(manifest, code);
  const memory = reserve(place.pages);
  const total = code.bytes + (manifest.weights.file === null ? 0 : manifest.weights.bytes);
  let received = 0;
  const progress = (bytes: number): void => options.onProgress?.((received += bytes), total);
  const [[module, codeChecked], weightsChecked] = await Promise.all([
    loadCode(source, code, abort.signal, progress),
    loadWeights(source, manifest.weights, memory, place.weights, abort.signal, progress),
  ]);
  const exports = await instantiate(module, code, memory, options.onKernel ?? (() => {}));
  const embedded = manifest.weights.file === null && manifest.weights.bytes > 0;
  return {
    manifest,
    code,
    place,
    memory,
    entry: findEntry(exports, manifest, code),
    weights: embedded ? embeddedWeights(exports, manifest, code) : place.weights,
    sync: options.onKernel ? 1 : 0,
    verified: codeChecked && weightsChecked,
    bytes: json.length + total,
  };
}

const names = (specs: readonly TensorSpec[]): readonly string[] => Object.freeze(specs.map((spec) => spec.name));
const metadata = (specs: readonly TensorSpec[]): readonly ValueMetadata[] =>
  Object.freeze(specs.map(({ name, type, dims }) => ({ name, isTensor: true as const, type, shape: dims })));

/** A compiled model, loaded and ready to run. */
export class InferenceSession {
  /** The model's name. */
  readonly name: string;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly ValueMetadata[];
  readonly outputMetadata: readonly ValueMetadata[];
  /** The build of the code that runs. */
  readonly variant: Variant;
  /** Whether code and weights were checked against the manifest's SHA-256; false outside secure contexts. */
  readonly verified: boolean;
  /** Bytes read: manifest, code and weights. */
  readonly downloadBytes: number;
  /** Bytes of memory reserved for this session. */
  readonly memoryBytes: number;
  #model: Model | null;

  private constructor(model: Model) {
    this.name = model.manifest.name;
    this.inputNames = names(model.manifest.inputs);
    this.outputNames = names(model.manifest.outputs);
    this.inputMetadata = metadata(model.manifest.inputs);
    this.outputMetadata = metadata(model.manifest.outputs);
    this.variant = model.code.relaxed ? "relaxed" : "simd";
    this.verified = model.verified;
    this.downloadBytes = model.bytes;
    this.memoryBytes = model.place.pages * 65536;
    this.#model = model;
  }

  /**
   * Open an artifact that was compiled for `wasm`.
   *
   * `from` is the URL of its folder or manifest.json (in Node also a path), or a map of its files: name to bytes.
   */
  static async create(from: string | URL | Files, options: SessionOptions = {}): Promise<InferenceSession> {
    const abort = new AbortController();
    try {
      return new InferenceSession(await open(openSource(from), options, abort));
    } finally {
      abort.abort(); // when one file is refused, the download of the other ends too
    }
  }

  /**
   * Run the model; `feeds` has a Tensor for each input. Returns every output, or those named in `fetches`, as copies.
   *
   * The work happens before this returns its promise, so runs of a session never overlap; use a worker to keep a
   * page responsive.
   */
  async run(feeds: Feeds, fetches?: readonly string[]): Promise<Record<string, Tensor>> {
    const model = this.#model;
    if (model === null) throw new GossamerError("engine", "session", "it was released");
    const unknown = fetches?.find((name) => !this.outputNames.includes(name));
    if (unknown !== undefined) {
      throw new GossamerError("feed", `output ${show(unknown)}`, "no such output", this.outputNames.map(show).join(", "));
    }
    compute(model, feeds);
    return results(model, fetches ?? this.outputNames);
  }

  /** Let go of the model's memory; further runs are refused. */
  async release(): Promise<void> {
    this.#model = null;
  }
}

function compute({ manifest, code, place, memory, entry, weights, sync }: Model, feeds: Feeds): void {
  checkFeeds(manifest.inputs, feeds).forEach((data, i) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    new Uint8Array(memory.buffer, place.inputs[i], data.byteLength).set(bytes);
  });
  let status: number;
  try {
    // thread 0 of 1; the code calls back after each kernel unless `sync` is 0
    status = entry(...place.inputs, ...place.outputs, weights, place.arena, 0, 1, sync);
  } catch (error) {
    throw new GossamerError("engine", code.file, "the model's code stopped", undefined, error);
  }
  if (status !== 0) {
    throw new GossamerError("engine", code.file, "the model's code failed", 0, status);
  }
}

function results({ manifest, place, memory }: Model, wanted: readonly string[]): Record<string, Tensor> {
  const entries = manifest.outputs.map(({ name, type, dims, bytes }, i): [string, Tensor] | null => {
    if (!wanted.includes(name)) return null;
    const address = place.outputs[i]!;
    const copy = memory.buffer.slice(address, address + bytes) as ArrayBuffer;
    return [name, new Tensor(type, arrayOf(type, copy), dims)];
  });
  return Object.fromEntries(entries.filter((entry) => entry !== null));
}
