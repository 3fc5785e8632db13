/** What went wrong: the manifest, a tensor given to `run`, a file of the artifact, or this engine. */
export type ErrorCode = "manifest" | "feed" | "artifact" | "engine";

/** One failure told in one line: where, what, expected, got, what to do. */
export class GossamerError extends Error {
  override readonly name: string = "GossamerError";
  readonly code: ErrorCode;
  readonly where: string | undefined;
  readonly expected: string | number | undefined;
  readonly got: string | undefined;

  /** `got` may be any value and is shown when it is passed, undefined too; other parts are left out when undefined. */
  constructor(code: ErrorCode, where?: string, what = "failed", expected?: string | number, got?: unknown, advice?: string) {
    const shown = arguments.length > 4 ? show(got) : undefined;
    const parts = [
      where === undefined ? what : `${where}: ${what}`,
      expected === undefined ? "" : `expected ${expected}`,
      shown === undefined ? "" : `got ${shown}`,
      advice ?? "",
    ];
    super(parts.filter(Boolean).join("; ").replace(/\s+/g, " "));
    this.code = code;
    this.where = where;
    this.expected = expected;
    this.got = shown;
  }
}

/** Any value in a few words; text is quoted, so that what a file says cannot pass for ours. */
export function show(value: unknown): string {
  let text = value instanceof Error ? value.message : String(value);
  if (!(value instanceof Error)) {
    try {
      text = JSON.stringify(value) ?? text;
    } catch {} // big integers and cycles keep their plain text
  }
  return text.length > 120 ? text.slice(0, 117) + "..." : text;
}
