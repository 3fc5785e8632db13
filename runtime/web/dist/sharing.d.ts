/** Code for one thread and code for several differ in one bit: whether the memory that it imports is shared. */
/**
 * The module of `code` for a shared memory, or null where it imports no memory with a maximum.
 *
 * Loads and stores are the same for both kinds of memory, and our code needs no atomic ones: threads meet outside it.
 */
export declare function shareable(code: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | null;
