import { type Orders } from "./worker.js";
/** Whether this page or process may share memory with workers. */
export declare function canShare(): boolean;
/** Workers that compute a model together in one shared memory. */
export declare class Crew {
    #private;
    private constructor();
    /** Start one worker for each of `orders`; null where this engine or the page's policy has none. */
    static hire(orders: readonly Orders[]): Promise<Crew | null>;
    /** Compute once; one call at a time. A failure is a GossamerError about `file`. */
    run(file: string): Promise<void>;
    /** End the workers; none of them may be computing. */
    dismiss(): void;
}
