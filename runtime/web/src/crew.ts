import { GossamerError } from "./errors.js";
import { node } from "./source.js";
import { work, WORDS, type News, type Orders } from "./worker.js";

/** A worker of a browser or of Node. */
interface Helper {
  tell(orders: Orders): void;
  /** Whether it keeps Node from ending. */
  hold(needed: boolean): void;
  end(): void;
}
type Heard = (news: News) => void;

/** Whether this page or process may share memory with workers. */
export function canShare(): boolean {
  const { crossOriginIsolated, SharedArrayBuffer } = globalThis as {
    crossOriginIsolated?: boolean;
    SharedArrayBuffer?: unknown;
  };
  return SharedArrayBuffer !== undefined && crossOriginIsolated !== false;
}

function employ(program: string, hear: Heard): Helper {
  const threads = node("node:worker_threads");
  const lost = (error: unknown): void => hear({ error: String((error as Error)?.message ?? error), status: undefined });
  if (threads) {
    const worker = new threads.Worker(program, { eval: true });
    worker.on("message", hear as (message: unknown) => void);
    worker.on("error", lost);
    const hold = (needed: boolean): void => (needed ? worker.ref() : worker.unref());
    return { tell: (orders) => worker.postMessage(orders), hold, end: () => void worker.terminate() };
  }
  const address = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  const worker = new Worker(address);
  worker.onmessage = ({ data }) => hear(data as News);
  worker.onerror = (event) => lost(event.message || "it cannot be started");
  const end = (): void => {
    worker.terminate();
    URL.revokeObjectURL(address);
  };
  return { tell: (orders) => worker.postMessage(orders), hold: () => {}, end };
}

/** Workers that compute a model together in one shared memory. */
export class Crew {
  readonly #state: Int32Array;
  readonly #helpers: Helper[] = [];
  #hear: Heard = () => {};
  #broken = false;

  private constructor(memory: WebAssembly.Memory, control: number) {
    this.#state = new Int32Array(memory.buffer, control, 16);
  }

  /** Start one worker for each of `orders`; null where this engine or the page's policy has none. */
  static async hire(orders: readonly Orders[]): Promise<Crew | null> {
    const { memory, control } = orders[0]!;
    const crew = new Crew(memory, control);
    const program = `(${work})(${JSON.stringify(WORDS)})`;
    try {
      let waiting = orders.length;
      await new Promise<void>((done, fail) => {
        crew.#hear = (news) => (news !== "ready" ? fail(news) : --waiting === 0 && done());
        for (const each of orders) {
          const helper = employ(program, (news) => crew.#hear(news));
          crew.#helpers.push(helper);
          helper.tell(each);
        }
      });
      for (const helper of crew.#helpers) helper.hold(false);
      return crew;
    } catch {
      crew.dismiss();
      return null;
    }
  }

  /** Compute once; one call at a time. A failure is a GossamerError about `file`. */
  async run(file: string): Promise<void> {
    const state = this.#state;
    if (this.#broken) throw new GossamerError("engine", file, "a worker was lost in an earlier run");
    const ended = new Promise<Exclude<News, string> | null>((end) => {
      let [failure, done]: [Exclude<News, string> | null, boolean] = [null, false];
      this.#hear = (news) => {
        if (news === "done") done = true;
        else if (news !== "ready") failure = news;
        // the worker that failed says so, but its words may come after another one's "done"
        const failed = Atomics.load(state, WORDS.failed) !== 0;
        if (failure !== null && !failed) this.#broken = true;
        if (this.#broken || (done && failed === (failure !== null))) end(failure);
      };
    });
    for (const helper of this.#helpers) helper.hold(true);
    Atomics.store(state, WORDS.arrived, 0);
    Atomics.store(state, WORDS.failed, 0);
    Atomics.store(state, WORDS.busy, this.#helpers.length);
    Atomics.add(state, WORDS.round, 1);
    Atomics.notify(state, WORDS.round);
    const failure = await ended;
    for (const helper of this.#helpers) helper.hold(false);
    if (failure?.status !== undefined) {
      throw new GossamerError("engine", file, "the model's code failed", 0, failure.status);
    }
    if (failure) throw new GossamerError("engine", file, "the model's code stopped", undefined, new Error(failure.error));
  }

  /** End the workers; none of them may be computing. */
  dismiss(): void {
    for (const helper of this.#helpers) helper.end();
  }
}
