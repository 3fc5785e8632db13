import { canShare, Crew } from "./crew.js";
import { GossamerError, show } from "./errors.js";
import { checkFeeds, type Feeds } from "./feeds.js";
import { embeddedWeights, findEntry, findSizes, instantiate, type Entry } from "./instance.js";
import { loadCode, loadWeights } from "./loading.js";
import { MOST_THREADS, readManifest, type CodeFile, type Manifest, type TensorSpec } from "./manifest.js";
import { checkEnd, copied, grow, layout, placeRun, reserve, type Layout, type Places } from "./memory.js";
import { dimsOf, refusedSizes, symbolValues, type Fed } from "./sizes.js";
import { openSource, readAll, type Files, type Source } from "./source.js";
import { arrayOf, bytesPerElement, sizeOf, Tensor, type DataType } from "./tensor.js";
import { chooseCode, type Variant } from "./variant.js";
import type { Orders } from "./worker.js";

/** How to open an artifact. */
export interface SessionOptions {
  /** Run this build of the code instead of the fastest that the engine takes. */
  readonly variant?: Variant;
  /**
   * Threads of one run; without it, as many as the artifact says. More than one need a page that is cross-origin isolated
   * (or Node): elsewhere it is one. `session.threads` tells.
   */
  readonly threads?: number;
  /** Told of bytes of code and weights as they arrive. */
  readonly onProgress?: (received: number, total: number) => void;
  /** Called before the first and after every kernel of a run, for profiles; the run then has one thread. */
  readonly onKernel?: () => void;
}

/** Name, element type and shape of an input or output; a size that each run may choose is a name or a formula. */
export interface ValueMetadata {
  readonly name: string;
  readonly isTensor: true;
  readonly type: DataType;
  readonly shape: readonly (number | string)[];
}

interface Model {
  readonly manifest: Manifest;
  readonly code: CodeFile;
  readonly place: Layout;
  readonly memory: WebAssembly.Memory;
  readonly weights: number;
  readonly sizes: Entry | null;
  readonly compute: (parameters: readonly number[]) => void;
  readonly crew: Crew | null;
  readonly threads: number;
  readonly verified: boolean;
  readonly bytes: number;
}

const MANIFEST_LIMIT = 64 * 2 ** 20;

async function open(source: Source, options: SessionOptions, abort: AbortController): Promise<Model> {
  const json = await readAll(source, "manifest.json", MANIFEST_LIMIT, abort.signal);
  const manifest = readManifest(json);
  const code = chooseCode(manifest, source, options.variant);
  const wanted = chooseThreads(manifest, options);
  const place = layout(manifest, code, wanted);
  const fixed = manifest.table === null ? placesOf(manifest, place, wanted, []) : null;
  const end = fixed?.end ?? place.free;
  checkEnd(end, "manifest");
  const memory = reserve(end, code, wanted > 1, fixed === null);
  const total = code.bytes + (manifest.weights.file === null ? 0 : manifest.weights.bytes);
  let received = 0;
  const progress = (bytes: number): void => options.onProgress?.((received += bytes), total);
  const [[module, codeChecked], weightsChecked] = await Promise.all([
    loadCode(source, code, wanted > 1, abort.signal, progress),
    loadWeights(source, manifest.weights, memory, place.weights, abort.signal, progress),
  ]);
  const exports = await instantiate(module, code, memory, options.onKernel ?? (() => {}));
  const entry = findEntry(exports, manifest, code);
  const embedded = manifest.weights.file === null && manifest.weights.bytes > 0;
  const weights = embedded ? embeddedWeights(exports, manifest, code) : place.weights;
  const sizes = findSizes(exports, manifest, code);
  const parameters = manifest.inputs.length + manifest.outputs.length + 2;
  const orders = Array.from({ length: wanted }, (_, thread): Orders => {
    const stack = place.stacks[thread - 1];
    return { module, memory, entry: manifest.entry, parameters, thread, threads: wanted, control: place.control, stack };
  });
  const crew = wanted > 1 ? await Crew.hire(orders) : null;
  return {
    manifest,
    code,
    place,
    memory,
    weights,
    sizes,
    compute: (parameters) => {
      options.onKernel?.();
      computeAlone(code, exports, entry, [...parameters, 0, 1, options.onKernel ? 1 : 0]);
    },
    crew,
    threads: crew ? wanted : 1,
    verified: codeChecked && weightsChecked,
    bytes: json.length + total,
  };
}

/** As many threads as are asked for; one where memory cannot be shared, and where kernels are watched. */
function chooseThreads(manifest: Manifest, { threads = manifest.threads, onKernel }: SessionOptions): number {
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS) {
    throw new GossamerError("engine", "threads", "wrong number", `a whole number from 1 to ${MOST_THREADS}`, threads);
  }
  return canShare() && !onKernel ? threads : 1;
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
  /** Threads of one run. */
  readonly threads: number;
  #model: Model | null;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(model: Model) {
    this.name = model.manifest.name;
    this.inputNames = names(model.manifest.inputs);
    this.outputNames = names(model.manifest.outputs);
    this.inputMetadata = metadata(model.manifest.inputs);
    this.outputMetadata = metadata(model.manifest.outputs);
    this.variant = model.code.relaxed ? "relaxed" : "simd";
    this.verified = model.verified;
    this.threads = model.threads;
    this.downloadBytes = model.bytes;
    this.#model = model;
  }

  /** Bytes of memory reserved for this session, which runs of larger sizes may make more; 0 when it was released. */
  get memoryBytes(): number {
    return this.#model?.memory.buffer.byteLength ?? 0;
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
   * Runs of a session happen one after another. With one thread the work happens before this returns its promise: use a
   * worker to keep a page responsive. With several the work happens in workers; feeds are read before this returns.
   */
  async run(feeds: Feeds, fetches?: readonly string[]): Promise<Record<string, Tensor>> {
    const model = this.#model;
    if (model === null) throw new GossamerError("engine", "session", "it was released");
    const unknown = fetches?.find((name) => !this.outputNames.includes(name));
    if (unknown !== undefined) {
      throw new GossamerError("feed", `output ${show(unknown)}`, "no such output", this.outputNames.map(show).join(", "));
    }
    const fed = checkFeeds(model.manifest.inputs, feeds);
    const wanted = fetches ?? this.outputNames;
    const { crew } = model;
    if (crew === null) {
      const places = prepare(model, fed);
      model.compute(parametersOf(model, places));
      return results(model, places, wanted);
    }
    const copies = fed.map(({ data, dims }) => ({ data: data.slice(), dims }));
    const result = this.#last.then(async () => {
      const places = prepare(model, copies);
      const parameters = parametersOf(model, places);
      new Uint32Array(model.memory.buffer, model.place.control + 64, parameters.length).set(parameters);
      await crew.run(model.code.file);
      return results(model, places, wanted);
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /** Let go of the model's memory and workers, after the runs under way; further runs are refused. */
  async release(): Promise<void> {
    const model = this.#model;
    this.#model = null;
    await this.#last;
    model?.crew?.dismiss();
  }
}

/** Where a run of the model has its tensors; `numbers` is the table of sizes, filled in, or nothing. */
function placesOf(manifest: Manifest, place: Layout, threads: number, numbers: ArrayLike<bigint>): Places {
  const bytes = (spec: TensorSpec): number => (numbers.length > 0 ? bytesOf(spec, numbers) : spec.bytes);
  const [arena, scratch] = numbers.length > 0 ? [numbers[0]!, numbers[1]!] : [manifest.arenaBytes, manifest.scratchBytes];
  const all = Number(arena) + (threads - 1) * Number(scratch);
  return placeRun(place.free, manifest.inputs.map(bytes), manifest.outputs.map(bytes), all);
}

const bytesOf = (spec: TensorSpec, numbers: ArrayLike<bigint>): number =>
  sizeOf(dimsOf(spec, numbers)) * bytesPerElement(spec.type);

/** Lay out the tensors of a run and write the inputs and the table of sizes to their places. */
function prepare(model: Model, fed: readonly Fed[]): Places {
  const { manifest, memory, place } = model;
  const numbers = fillTable(model, fed);
  const places = placesOf(manifest, place, model.threads, numbers);
  checkEnd(places.end, "feed");
  grow(memory, places.end);
  fed.forEach(({ data }, i) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    new Uint8Array(memory.buffer, places.inputs[i], bytes.length).set(bytes);
  });
  new BigInt64Array(memory.buffer, places.arena, numbers.length).set(numbers);
  return places;
}

/** A copy of the table for inputs of these dims, filled in by the model's code; empty where there is none. */
function fillTable({ manifest, memory, place, sizes }: Model, fed: readonly Fed[]): BigInt64Array {
  const { table } = manifest;
  if (table === null || sizes === null) return new BigInt64Array(0);
  const numbers = new BigInt64Array(memory.buffer, place.table, table.count).fill(0n);
  const values = symbolValues(table, manifest.inputs, fed.map(({ dims }) => dims));
  for (const [slot, size] of values) numbers[slot] = BigInt(size);
  const status = sizes(place.table);
  if (status !== 0 || numbers[0]! < 0n) throw refusedSizes(table, Number(numbers[0]));
  return numbers.slice();
}

const parametersOf = ({ weights }: Model, places: Places): readonly number[] => [
  ...places.inputs,
  ...places.outputs,
  weights,
  places.arena,
];

/** Compute as the only thread; the last of `parameters` says whether kernels call back. */
function computeAlone(code: CodeFile, exports: WebAssembly.Exports, entry: Entry, parameters: readonly number[]): void {
  const pointer = exports["__stack_pointer"];
  const top: unknown = pointer instanceof WebAssembly.Global ? pointer.value : undefined;
  let status: number;
  try {
    status = entry(...parameters);
  } catch (error) {
    if (pointer instanceof WebAssembly.Global) pointer.value = top; // it stopped in the middle
    throw new GossamerError("engine", code.file, "the model's code stopped", undefined, error);
  }
  if (status !== 0) {
    throw new GossamerError("engine", code.file, "the model's code failed", 0, status);
  }
}

function results({ manifest, memory }: Model, places: Places, wanted: readonly string[]): Record<string, Tensor> {
  // Sizes that data decide are known only now.
  const numbers = new BigInt64Array(memory.buffer, places.arena, manifest.table?.count ?? 0);
  const entries = manifest.outputs.map((spec, i): [string, Tensor] | null => {
    if (!wanted.includes(spec.name)) return null;
    const data = copied(memory, places.outputs[i]!, bytesOf(spec, numbers));
    return [spec.name, new Tensor(spec.type, arrayOf(spec.type, data), dimsOf(spec, numbers))];
  });
  return Object.fromEntries(entries.filter((entry) => entry !== null));
}
