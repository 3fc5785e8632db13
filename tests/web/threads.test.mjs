import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { InferenceSession, Tensor } from "../../runtime/web/dist/gossamer.js";
import { changedToy, failing, readToy } from "./support.mjs";

const SIZE = 24;
const crowd = (options, name = "crowd") => InferenceSession.create(readToy(name), options);
const feeding = (data) => ({ x: new Tensor("float32", Float32Array.from(data), [2, SIZE / 2]) });
const ramp = (start) => Array.from({ length: SIZE }, (_, i) => i + start);
const output = async (session, data) => [...(await session.run(feeding(data)))["y*/"].data];

async function withCrowd(options, use, name) {
  const session = await crowd(options, name);
  try {
    await use(session);
  } finally {
    await session.release();
  }
}

for (const variant of ["simd", "relaxed"]) {
  test(`any number of threads computes what one does, ${variant} build`, async () => {
    let expected;
    for (const threads of [1, 2, 3, 4, 7, 16]) {
      await withCrowd({ threads, variant }, async (session) => {
        assert.equal(session.threads, threads);
        assert.equal(session.variant, variant);
        const found = [];
        for (let run = 0; run < 50; run++) found.push(await output(session, ramp(run)));
        expected ??= found;
        assert.deepEqual(found, expected);
      });
    }
  });
}

test("without an option the artifact's own number is taken", async () => {
  await withCrowd({}, async (session) => assert.equal(session.threads, 3));
});

test("weights in the code serve all threads", async () => {
  const expected = await crowd({ threads: 1 }).then((session) => output(session, ramp(0)));
  const use = async (session) => assert.deepEqual(await output(session, ramp(0)), expected);
  await withCrowd({ threads: 2 }, use, "crowd-embedded");
});

test("code and weights in shared memory are verified too", async () => {
  await withCrowd({ threads: 2 }, async (session) => assert.equal(session.verified, true));
  const files = readToy("crowd");
  files["weights.bin"][0] ^= 1;
  await assert.rejects(InferenceSession.create(files, { threads: 2 }), failing("artifact", /wrong SHA-256/));
});

test("runs started together are computed one after the other, on the feeds of their start", async () => {
  await withCrowd({ threads: 3 }, async (session) => {
    const data = Float32Array.from(ramp(0));
    const feeds = { x: new Tensor("float32", data, [2, SIZE / 2]) };
    const runs = [0, 1, 2, 3].map((start) => {
      data.set(ramp(start));
      return session.run(feeds);
    });
    data.fill(NaN);
    const found = (await Promise.all(runs)).map((outputs) => [...outputs["y*/"].data]);
    for (const start of [0, 1, 2, 3]) assert.deepEqual(found[start], await output(session, ramp(start)));
  });
});

const broken = (index, value) => ramp(0).map((x, i) => (i === index ? value : x));

test("a thread that fails ends the run for all, and the session goes on", async () => {
  for (const threads of [1, 2, 5]) {
    await withCrowd({ threads }, async (session) => {
      const expected = await output(session, ramp(0));
      for (let round = 0; round < 20; round++) {
        await assert.rejects(session.run(feeding(broken(0, -2e30))), failing("engine", /the model's code failed.*got 7/));
        await assert.rejects(session.run(feeding(broken(1, 2e30))), failing("engine", /the model's code stopped.*unreachable/));
        assert.deepEqual(await output(session, ramp(0)), expected);
      }
    });
  }
});

test("releasing waits for the runs under way and refuses further ones", async () => {
  const session = await crowd({ threads: 2 });
  const run = session.run(feeding(ramp(0)));
  await session.release();
  assert.equal((await run)["y*/"].data.length, SIZE);
  await assert.rejects(session.run(feeding(ramp(0))), failing("engine", /released/));
  await session.release();
});

test("two crowds work at the same time", async () => {
  const sessions = await Promise.all([crowd({ threads: 2 }), crowd({ threads: 3 })]);
  const found = await Promise.all(sessions.flatMap((s) => [output(s, ramp(1)), output(s, ramp(2))]));
  assert.deepEqual(found.slice(0, 2), found.slice(2));
  await Promise.all(sessions.map((session) => session.release()));
});

test("a wrong number of threads is refused", async () => {
  for (const threads of [0, -1, 1.5, 17, "2", null]) {
    await assert.rejects(crowd({ threads }), failing("engine", /threads: wrong number; expected .* 1 to 16/));
  }
});

test("code whose memory cannot be shared is refused for several threads", async () => {
  const create = InferenceSession.create(changedToy(() => {}), { threads: 2 });
  await assert.rejects(create, failing("artifact", /cannot be shared by threads/));
});

test("a watched session has one thread", async () => {
  let kernels = 0;
  await withCrowd({ threads: 3, onKernel: () => kernels++ }, async (session) => {
    assert.equal(session.threads, 1);
    await output(session, ramp(0));
    assert.equal(kernels, 3); // before the first, and after each of two
  });
});

test("where memory cannot be shared, one thread computes", async (context) => {
  context.after(() => delete globalThis.crossOriginIsolated);
  globalThis.crossOriginIsolated = false;
  await withCrowd({ threads: 3 }, async (session) => {
    assert.equal(session.threads, 1);
    assert.equal((await output(session, ramp(0))).length, SIZE);
  });
});

test("a session with threads that is left open does not keep Node from ending", () => {
  const program = `
    import { readToy, TOYS } from ${JSON.stringify(new URL("support.mjs", import.meta.url).href)};
    import { InferenceSession, Tensor } from ${JSON.stringify(new URL("../../runtime/web/dist/gossamer.js", import.meta.url).href)};
    const session = await InferenceSession.create(readToy("crowd"), { threads: 3 });
    const { "y*/": y } = await session.run({ x: new Tensor("float32", new Float32Array(24), [2, 12]) });
    console.log(y.data[0]);
  `;
  const flags = process.execArgv.filter((flag) => flag.startsWith("--experimental"));
  const printed = execFileSync(process.execPath, [...flags, "--input-type=module", "-e", program], { timeout: 60_000 });
  assert.equal(String(printed), "1\n");
});
