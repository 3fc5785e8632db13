// Answers requests from stdin on stdout: node node.mjs

import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import { answering } from "./answering.mjs";

for (const name of ["log", "info", "debug"]) console[name] = console.error; // stdout holds answers alone

async function read(path) {
  return new Uint8Array(await readFile(path)).slice(); // a buffer of its own, aligned for every type
}

const answer = answering({ read, write: writeFile });
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(JSON.parse(line))) + "\n");
}
process.exit(0);
