import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { changedToy, readToy, serving, TOY_Y, WEB } from "./support.mjs";

const { chromium } = createRequire(join(WEB, "package.json"))("playwright-core");

const PAGE = { "index.html": readFileSync(join(WEB, "index.html")), "gossamer.js": readFileSync(join(WEB, "dist/gossamer.js")) };
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP insecure.test 127.0.0.1",
];

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.GOSSAMER_CHROMIUM, args: FLAGS });
});
after(() => browser.close());

/** Open `files` as a page; `use(page, base, requests)` sees every address that was asked for. */
async function visiting(files, use, path = "index.html", headers = {}) {
  const visit = async (base) => {
    const page = await browser.newPage();
    const [requests, errors] = [[], []];
    page.on("request", (request) => requests.push(request.url()));
    page.on("pageerror", (error) => errors.push(error));
    try {
      await page.goto(base + path);
      await use(page, base, requests);
      assert.deepEqual(errors, []);
    } finally {
      await page.close();
    }
  };
  await serving(files, visit, undefined, headers);
}

async function finished(page) {
  const result = page.locator('#result[data-state="done"], #result[data-state="error"]');
  await result.waitFor({ state: "attached", timeout: 30_000 });
  return { state: await result.getAttribute("data-state"), result: await page.evaluate(() => window.gossamerResult) };
}

test("the page runs the model of its folder, fast build first, and asks nobody else", async () => {
  const files = readToy();
  await visiting({ ...PAGE, ...files }, async (page, base, requests) => {
    const { state, result } = await finished(page);
    assert.equal(state, "done", JSON.stringify(result));
    assert.equal(result.variant, "relaxed");
    assert.equal(result.verified, true);
    assert.deepEqual(result.outputs.map(({ name, type, shape }) => [name, type, shape]), [
      ["y", "float32", [2, 3]], ["__proto__", "int64", [3]],
    ]);
    assert.deepEqual(Object.keys(result.top5[0]), ["index", "value"]);
    assert.equal(result.top5[0].value, result.outputs[0].max);
    const sizes = ["manifest.json", "model.relaxed.wasm", "weights.bin"].map((name) => files[name].length);
    assert.equal(result.downloadBytes, sizes.reduce((a, b) => a + b));
    assert.ok(requests.every((address) => address.startsWith(base) || address.startsWith("data:")), requests.join(" "));
    assert.equal(await page.title(), "toy");
    assert.match(await page.locator("#tables").innerText(), /median of 20 more\s+[\d.]+ ms/);
  });
});

test("the page draws the same random inputs each time", async () => {
  const seen = [];
  for (const path of ["index.html", "index.html?variant=simd"]) {
    await visiting({ ...PAGE, ...readToy() }, async (page) => seen.push((await finished(page)).result), path);
  }
  assert.deepEqual(seen.map(({ variant }) => variant), ["relaxed", "simd"]);
  assert.deepEqual(seen[0].inputs, seen[1].inputs);
  assert.notEqual(seen[0].inputs[0].min, seen[0].inputs[0].max);
});

test("the page runs again on a button", async () => {
  await visiting({ ...PAGE, ...readToy() }, async (page) => {
    await finished(page);
    await page.getByRole("button", { name: "Run again" }).click();
    await page.waitForFunction(() => window.gossamerResult.outputs[1].max === 22); // the toy counts its runs
  });
});

/** A picture of one row, as a BMP file: [red, green, blue] for each pixel. */
function bitmap(pixels) {
  const row = Buffer.alloc(Math.ceil((pixels.length * 3) / 4) * 4);
  pixels.forEach(([r, g, b], i) => row.set([b, g, r], 3 * i));
  const header = Buffer.alloc(54);
  header.write("BM");
  header.writeUInt32LE(54 + row.length, 2);
  [54, 40, pixels.length, 1].forEach((value, i) => header.writeUInt32LE(value, 10 + 4 * i));
  header.writeUInt16LE(1, 26);
  header.writeUInt16LE(24, 28);
  return Buffer.concat([header, row]);
}

test("a chosen image becomes the input, plane by plane", async () => {
  const files = changedToy((manifest) => void (manifest.inputs[0].shape = [1, 3, 1, 2]));
  await visiting({ ...PAGE, ...files }, async (page) => {
    await finished(page);
    await page.locator("#scale").selectOption("unit");
    const buffer = bitmap([[255, 0, 0], [0, 0, 255]]);
    await page.locator("#file").setInputFiles({ name: "two.bmp", mimeType: "image/bmp", buffer });
    await page.waitForFunction(() => window.gossamerResult.input === "two.bmp");
    const { result } = await finished(page);
    // x = red 1 0, green 0 0, blue 0 1; y = x * (2 3 4 2 3 4) + (10 20 30 10 20 30)
    const largest = result.top5.map(({ index, value }) => [index, value]);
    assert.deepEqual(largest, [[5, 34], [2, 30], [1, 20], [4, 20], [0, 12]]);
  });
});

test("a file that is no image is told, and the page goes on", async () => {
  const files = changedToy((manifest) => void (manifest.inputs[0].shape = [1, 3, 1, 2]));
  await visiting({ ...PAGE, ...files }, async (page) => {
    await finished(page);
    await page.locator("#file").setInputFiles({ name: "no.png", mimeType: "image/png", buffer: Buffer.from("no image") });
    await page.locator('#result[data-state="error"]').waitFor({ state: "attached" });
    await page.locator("#file").setInputFiles([]);
    await page.locator('#result[data-state="done"]').waitFor({ state: "attached" });
  });
});

test("a broken artifact is told on the page in one line", async () => {
  const { "weights.bin": _, ...files } = readToy();
  await visiting({ ...PAGE, ...files }, async (page) => {
    const { state, result } = await finished(page);
    assert.equal(state, "error");
    assert.equal(result.code, "artifact");
    assert.match(result.error, /weights\.bin: the server refused it; expected 200; got 404$/);
    assert.equal(await page.getByRole("status").innerText(), result.error);
  });
});

/** Open the artifact at `from` and run it on the toy's inputs; this text runs inside the browser. */
const inBrowser = async (from) => {
  const { InferenceSession, Tensor } = await import("/gossamer.js");
  const session = await InferenceSession.create(from);
  const x = new Tensor("float32", Float32Array.of(0, 1, 2, 3, 4, 5), [2, 3]);
  const { y } = await session.run({ x, n: new Tensor("int64", [1n, 2n], [2]) });
  return { y: [...y.data], verified: session.verified, secure: isSecureContext };
};

const toyAt = (folder) => Object.fromEntries(Object.entries(readToy()).map(([name, bytes]) => [folder + name, bytes]));
const BLANK = { "blank/index.html": Buffer.from("<!doctype html><title>blank</title>") };

test("a page opens an artifact by an address relative to itself", async () => {
  await visiting({ ...PAGE, ...BLANK, ...toyAt("blank/toy/") }, async (page) => {
    const result = await page.evaluate(inBrowser, "toy");
    assert.deepEqual(result, { y: TOY_Y, verified: true, secure: true });
  }, "blank/index.html");
});

test("a worker opens an artifact by an address relative to itself", async () => {
  const source = `const work = ${inBrowser}; onmessage = async ({ data }) => postMessage(await work(data));`;
  const files = { ...PAGE, ...BLANK, ...toyAt("blank/toy/"), "blank/worker.js": Buffer.from(source) };
  await visiting(files, async (page) => {
    const result = await page.evaluate(() => new Promise((done, failed) => {
      const worker = new Worker("worker.js", { type: "module" });
      worker.onmessage = ({ data }) => done(data);
      worker.onerror = failed;
      worker.postMessage("./toy/manifest.json");
    }));
    assert.deepEqual(result, { y: TOY_Y, verified: true, secure: true });
  }, "blank/index.html");
});

test("over plain HTTP from another host the model runs, and says that it was not verified", async () => {
  await visiting({ ...PAGE, ...BLANK, ...toyAt("blank/toy/") }, async (page, base) => {
    await page.goto(base.replace("127.0.0.1", "insecure.test") + "blank/index.html");
    const result = await page.evaluate(inBrowser, "toy");
    assert.deepEqual(result, { y: TOY_Y, verified: false, secure: false });
  }, "blank/index.html");
});

const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

/** In the page: outputs and threads of a session of the crowd, for each number of threads asked for. */
const withThreads = async (numbers) => {
  const { InferenceSession, Tensor } = await import("/gossamer.js");
  const found = [];
  for (const threads of numbers) {
    const session = await InferenceSession.create("/crowd/", { threads });
    const runs = [];
    for (let run = 0; run < 100; run++) {
      const x = new Tensor("float32", Float32Array.from({ length: 24 }, (_, i) => i + run), [2, 12]);
      runs.push([...(await session.run({ x }))["y*/"].data]);
    }
    found.push({ threads: session.threads, verified: session.verified, runs });
    await session.release();
  }
  return found;
};
const crowd = () => Object.fromEntries(Object.entries(readToy("crowd")).map(([name, bytes]) => [`crowd/${name}`, bytes]));

test("on an isolated page several threads compute what one does", async () => {
  await visiting({ ...PAGE, ...BLANK, ...crowd() }, async (page) => {
    const [alone, ...others] = await page.evaluate(withThreads, [1, 2, 3, 8]);
    assert.deepEqual(others.map(({ threads }) => threads), [2, 3, 8]);
    for (const { runs, verified } of others) assert.deepEqual([runs, verified], [alone.runs, true]);
  }, "blank/index.html", ISOLATED);
});

test("on a page that is not isolated one thread computes", async () => {
  await visiting({ ...PAGE, ...BLANK, ...crowd() }, async (page) => {
    const [found] = await page.evaluate(withThreads, [3]);
    assert.equal(found.threads, 1);
    assert.equal(found.runs[0].length, 24);
  }, "blank/index.html");
});

test("where the page's policy forbids our workers, one thread computes", async () => {
  const policy = "script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self'";
  await visiting({ ...PAGE, ...BLANK, ...crowd() }, async (page) => {
    const [found] = await page.evaluate(withThreads, [3]);
    assert.equal(found.threads, 1);
    assert.equal(found.runs[0].length, 24);
  }, "blank/index.html", { ...ISOLATED, "content-security-policy": policy });
});

test("a failing thread is told on an isolated page, and the session goes on", async () => {
  await visiting({ ...PAGE, ...BLANK, ...crowd() }, async (page) => {
    const found = await page.evaluate(async () => {
      const { InferenceSession, Tensor } = await import("/gossamer.js");
      const session = await InferenceSession.create("/crowd/", { threads: 2 });
      const run = async (index, value) => {
        const data = new Float32Array(24);
        data[index] = value;
        return session.run({ x: new Tensor("float32", data, [2, 12]) }).then(() => "fine", (error) => error.message);
      };
      return [await run(0, -2e30), await run(1, 2e30), await run(0, 0)];
    });
    assert.match(found[0], /failed; expected 0; got 7/);
    assert.match(found[1], /stopped; got unreachable/);
    assert.equal(found[2], "fine");
  }, "blank/index.html", ISOLATED);
});

test("the page itself uses threads where it is isolated, and says how many", async () => {
  const alone = [{}, 1, "index.html?threads=3"];
  for (const [headers, expected, path] of [alone, [ISOLATED, 3, "index.html?threads=3"]]) {
    await visiting({ ...PAGE, ...readToy("crowd") }, async (page) => {
      const { state, result } = await finished(page);
      assert.equal(state, "done", JSON.stringify(result));
      assert.equal(result.threads, expected);
    }, path, headers);
  }
});

test("the page runs a model whose sizes it chooses, and another size after it", async () => {
  const files = { ...PAGE, ...readToy("open") };
  const headers = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
  const use = async (page) => {
    const { state, result } = await finished(page);
    assert.equal(state, "done", JSON.stringify(result));
    assert.deepEqual(result.outputs[0].shape, [2]);
    const found = await page.evaluate(async () => {
      const { InferenceSession, Tensor } = await import("./gossamer.js");
      const session = await InferenceSession.create("./", { threads: 2 });
      const lengths = [];
      for (const length of [3, 200_000]) {
        const x = new Tensor("float32", new Float32Array(length).fill(1.5), [length]);
        const { y, z } = await session.run({ x, k: new Tensor("int64", [1n], [1, 1]) });
        lengths.push([y.dims[0], z.dims[0], y.data[0], y.data.at(-1)]);
      }
      return [session.threads, lengths];
    });
    assert.deepEqual(found, [2, [[6, 3, 4, 4], [400_000, 200_000, 4, 4]]]);
  };
  await visiting(files, use, undefined, headers);
});
