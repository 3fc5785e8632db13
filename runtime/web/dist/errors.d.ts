/** What went wrong: the manifest, a tensor given to `run`, a file of the artifact, or this engine. */
export type ErrorCode = "manifest" | "feed" | "artifact" | "engine";
/** One failure told in one line: where, what, expected, got, what to do. */
export declare class GossamerError extends Error {
    readonly name: string;
    readonly code: ErrorCode;
    readonly where: string | undefined;
    readonly expected: string | number | undefined;
    readonly got: string | undefined;
    /** `got` may be any value and is shown when it is passed, undefined too; other parts are left out when undefined. */
    constructor(code: ErrorCode, where?: string, what?: string, expected?: string | number, got?: unknown, advice?: string);
}
/** Any value in a few words; text is quoted, so that what a file says cannot pass for ours. */
export declare function show(value: unknown): string;
