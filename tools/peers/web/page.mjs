// Fetches requests from tools/browsing.py and posts answers.

import { answering } from "./answering.mjs";

async function read(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

const write = (address, body) => fetch(address, { method: "PUT", body });
const answer = answering({ read, write });
for (;;) {
  const request = await (await fetch("/ask")).json();
  await fetch("/answer", { method: "POST", body: JSON.stringify(await answer(request)) });
}
