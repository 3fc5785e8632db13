/** What a worker is told once. */
export interface Orders {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly entry: string;
  /** How many parameters of the entry, up to the arena, stand behind the words below. */
  readonly parameters: number;
  readonly thread: number;
  readonly threads: number;
  /** The address of the words below. */
  readonly control: number;
  /** Where its stack ends; undefined for the first thread, which has the module's own. */
  readonly stack: number | undefined;
}

/** What a worker tells: that it is ready, that a round is done, or what went wrong. */
export type News = "ready" | "done" | { readonly error: string; readonly status: number | undefined };

/** Words that all threads look at, by index: a change of `round` starts one. */
export const WORDS = { round: 0, busy: 1, arrived: 2, phase: 3, failed: 4 } as const;

interface Port {
  postMessage(news: News): void;
  onmessage: ((event: { data: Orders }) => void) | null;
  once?(event: "message", receive: (orders: Orders) => void): void;
}

/**
 * The whole program of a worker. It is turned into text and started from that, so it refers to nothing outside it.
 *
 * After its orders it never returns to its event loop: it waits for a round, computes its share, and waits again.
 */
export function work(words: typeof WORDS): void {
  const [PATIENCE, LOOKS] = [0.1, 500]; // milliseconds of looking again before it sleeps; looks between two of the clock
  const scope = globalThis as unknown as Port & {
    process?: { getBuiltinModule?(name: string): { parentPort: Port } };
  };
  const node = scope.process?.getBuiltinModule?.("node:worker_threads");
  const port: Port = node ? node.parentPort : scope;

  const serve = (orders: Orders): void => {
    const { module, memory, threads, thread, stack } = orders;
    const state = new Int32Array(memory.buffer, orders.control, 16);
    const parameters = new Uint32Array(memory.buffer, orders.control + 64, orders.parameters);
    const awaitChange = (index: number, seen: number): void => {
      const start = performance.now();
      do {
        for (let look = 0; look < LOOKS; look++) if (Atomics.load(state, index) !== seen) return;
      } while (performance.now() - start < PATIENCE);
      while (Atomics.load(state, index) === seen) Atomics.wait(state, index, seen);
    };
    const letGo = (): void => {
      Atomics.add(state, words.phase, 1);
      Atomics.notify(state, words.phase);
    };
    const othersFailed = {};
    const sync = (): void => {
      const phase = Atomics.load(state, words.phase);
      if (Atomics.load(state, words.failed)) throw othersFailed;
      if (Atomics.add(state, words.arrived, 1) === threads - 1) {
        Atomics.store(state, words.arrived, 0);
        letGo();
      } else {
        awaitChange(words.phase, phase);
      }
      if (Atomics.load(state, words.failed)) throw othersFailed;
    };
    const fail = (error: string, status?: number): void => {
      const first = Atomics.compareExchange(state, words.failed, 0, 1) === 0;
      letGo();
      if (first) port.postMessage({ error, status });
    };
    const { exports } = new WebAssembly.Instance(module, { env: { memory, sync } });
    const entry = exports[orders.entry] as (...parameters: number[]) => number;
    const pointer = exports["__stack_pointer"] as WebAssembly.Global | undefined;
    const top: number = stack ?? pointer?.value;
    port.postMessage("ready");
    for (let round = 0; ; round = (round + 1) | 0) {
      awaitChange(words.round, round);
      if (pointer) pointer.value = top; // a run that stopped in the middle leaves it anywhere
      try {
        const status = entry(...parameters, thread, threads, 1);
        if (status !== 0) fail("", status);
      } catch (error) {
        if (error !== othersFailed) fail(String((error as Error).message));
      }
      if (Atomics.sub(state, words.busy, 1) === 1) port.postMessage("done");
    }
  };
  const start = (orders: Orders): void => {
    try {
      serve(orders);
    } catch (error) {
      port.postMessage({ error: String((error as Error).message), status: undefined });
    }
  };
  if (port.once) port.once("message", start);
  else port.onmessage = ({ data }) => start(data);
}
