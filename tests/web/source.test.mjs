import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { InferenceSession } from "../../runtime/web/dist/gossamer.js";
import { failing, readToy, serving, TOY_Y, toyFeeds, TOYS } from "./support.mjs";

async function runs(from, options) {
  const session = await InferenceSession.create(from, options);
  assert.deepEqual([...(await session.run(toyFeeds())).y.data], TOY_Y);
  return session;
}

const toys = (at) => Object.fromEntries(Object.entries(readToy()).map(([name, bytes]) => [at + name, bytes]));

// ---- where artifacts come from ---------------------------------------------------------

test("a path of a folder or its manifest opens, absolute or relative", async () => {
  const folder = join(TOYS, "toy");
  await runs(folder);
  await runs(folder + "/");
  await runs(join(folder, "manifest.json"));
  const before = process.cwd();
  process.chdir(TOYS);
  try {
    await runs("toy");
    await runs("./toy/manifest.json");
  } finally {
    process.chdir(before);
  }
});

test("a file URL opens, as text or object", async () => {
  const url = pathToFileURL(join(TOYS, "toy"));
  await runs(url);
  await runs(url.href);
  assert.ok(!url.pathname.endsWith("/"), "the caller's URL is left alone");
});

test("files by name open, from an object or a Map, as arrays or buffers", async () => {
  const files = readToy();
  await runs(files);
  await runs(new Map(Object.entries(files)));
  await runs(Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.slice().buffer])));
});

test("a folder opens over HTTP, by its address or its manifest's", async () => {
  await serving(toys("models/toy/"), async (base) => {
    await runs(base + "models/toy");
    await runs(base + "models/toy/");
    await runs(base + "models/toy/manifest.json?v=2");
    assert.equal((await runs(new URL("models/toy", base))).verified, true);
  });
});

test("compressed transfer and small parts change nothing", async () => {
  const files = toys("");
  const answer = (path, response) => {
    const packed = gzipSync(files[path]);
    response.writeHead(200, { "content-encoding": "gzip" });
    for (let i = 0; i < packed.length; i += 50) response.write(packed.subarray(i, i + 50));
    response.end();
    return true;
  };
  await serving(files, runs, answer);
});

// ---- what is wrong with them -----------------------------------------------------------

test("files given as something else are refused, by name", async () => {
  const opened = (files) => InferenceSession.create(files);
  await assert.rejects(opened({ ...readToy(), "weights.bin": "text" }), failing("artifact", /^weights\.bin: not bytes; .*got "String"$/));
  await assert.rejects(opened({ ...readToy(), "weights.bin": [1, 2] }), failing("artifact", /^weights\.bin: not bytes/));
  const { "weights.bin": _, ...rest } = readToy();
  await assert.rejects(opened(rest), failing("artifact", /^weights\.bin: not among the files given; got \["manifest\.json"/));
  await assert.rejects(opened({}), failing("artifact", /^manifest\.json: not among the files given; got \[\]$/));
});

for (const [what, from, text] of [
  ["nothing", undefined, /^cannot open this; expected a URL .*got "Undefined"$/],
  ["null", null, /^cannot open this/],
  ["bare bytes", new Uint8Array(8), /^cannot open this; .*got "Uint8Array"$/],
  ["a bare buffer", new ArrayBuffer(8), /^cannot open this; .*got "ArrayBuffer"$/],
  ["a broken address", "http://[", /^"http:\/\/\[": not a URL$/],
]) {
  test(`opening ${what} is refused`, async () => {
    await assert.rejects(InferenceSession.create(from), failing("artifact", text));
  });
}

test("a path that does not exist is named", async () => {
  await assert.rejects(InferenceSession.create(join(TOYS, "absent")), failing("artifact", /^manifest\.json: cannot be read; got ENOENT.*absent/));
});

test("a refusing server is named with its answer", async () => {
  await serving({}, async (base) => {
    await assert.rejects(InferenceSession.create(base), failing("artifact", /manifest\.json: the server refused it; expected 200; got 404$/));
  });
});

test("a server that is not there is told", async () => {
  const gone = await serving({}, async (base) => base);
  await assert.rejects(InferenceSession.create(gone), failing("artifact", /^manifest\.json: cannot be read; got /));
});

test("a connection that breaks in the middle is told", async () => {
  const answer = (path, response) => {
    if (path !== "weights.bin") return false;
    response.writeHead(200, { "content-length": 128 });
    response.write(new Uint8Array(64), () => response.destroy());
    return true;
  };
  await serving(toys(""), async (base) => {
    await assert.rejects(InferenceSession.create(base), failing("artifact", /^weights\.bin: cannot be read; got /));
  }, answer);
});

for (const name of ["weights.bin", "model.simd.wasm"]) {
  const open = (change) => {
    const files = readToy();
    files[name] = change(files[name]);
    return InferenceSession.create(files, { variant: "simd" });
  };
  const at = (text) => failing("artifact", new RegExp(`^${name.replaceAll(".", "\\.")}: ${text}`));

  test(`${name} cut short is refused`, async () => {
    await assert.rejects(open((bytes) => bytes.subarray(1)), at("cut short; expected \\d+ bytes; got \\d+$"));
  });
  test(`${name} that goes on is refused`, async () => {
    await assert.rejects(open((bytes) => new Uint8Array([...bytes, 0])), at("longer than it should be; expected \\d+ bytes$"));
  });
  test(`${name} with one bit changed is refused`, async () => {
    const flip = (bytes) => bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte));
    await assert.rejects(open(flip), at('wrong SHA-256; expected [0-9a-f]{64}; got "[0-9a-f]{64}"; '));
  });
}

test("when the weights are refused, the download of the code ends", async () => {
  let closed;
  const ended = new Promise((done) => (closed = done));
  const answer = (path, response) => {
    if (path === "weights.bin") return void response.writeHead(500).end() ?? true;
    if (!path.endsWith(".wasm")) return false;
    response.on("close", closed);
    response.writeHead(200);
    response.write(new Uint8Array(1)); // and never the rest
    return true;
  };
  await serving(toys(""), async (base) => {
    await assert.rejects(InferenceSession.create(base), failing("artifact", /weights\.bin: the server refused it/));
    await ended;
  }, answer);
});

// ---- where no hash can be computed -----------------------------------------------------

test("outside secure contexts hashes are not checked, sizes are, and the session says so", async (context) => {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, "crypto");
  context.after(() => Object.defineProperty(globalThis, "crypto", descriptor));
  for (const crypto of [undefined, {}]) {
    Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true });
    assert.equal((await runs(readToy())).verified, false);
    const short = { ...readToy(), "weights.bin": new Uint8Array(127) };
    await assert.rejects(InferenceSession.create(short), failing("artifact", /cut short/));
  }
});
