/** Code for one thread and code for several differ in one bit: whether the memory that it imports is shared. */

const IMPORT_SECTION = 2;
const [FUNCTION, MEMORY] = [0, 2];
const [HAS_MAXIMUM, SHARED] = [1, 2];

/**
 * The module of `code` for a shared memory, or null where it imports no memory with a maximum.
 *
 * Loads and stores are the same for both kinds of memory, and our code needs no atomic ones: threads meet outside it.
 */
export function shareable(code: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | null {
  const at = limitsOfMemory(code);
  if (code[at] !== HAS_MAXIMUM) return null;
  const changed = code.slice();
  changed[at] = HAS_MAXIMUM | SHARED;
  return changed;
}

/** Where the limits of the imported memory are; past the end where there is none. */
function limitsOfMemory(code: Uint8Array): number {
  let at = 8; // after the magic number and the version
  const number = (): number => {
    let [value, scale, byte] = [0, 1, 0];
    do {
      byte = code[at++] ?? 0;
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    return value;
  };
  const skip = (): void => {
    const bytes = number();
    at += bytes;
  };
  while (at < code.length && code[at++] !== IMPORT_SECTION) skip();
  number();
  for (let left = number(); left > 0; left--) {
    skip(); // the name of the module
    skip(); // and of what it gives
    const kind = code[at++];
    if (kind === MEMORY) return at;
    if (kind !== FUNCTION) break;
    number(); // the function's type
  }
  return code.length;
}
