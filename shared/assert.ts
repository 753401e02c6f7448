// Invariants that stay on in production. An assertion guards against our own mistakes and nothing
// else: what comes from outside is refused with a DrError instead (STYLE § 9).

export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Stops the operation when one of our own invariants does not hold. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new AssertionError(`broken invariant: ${invariant}`);
}

/** Returns `value`, which our own code guarantees to be there. */
export function defined<T>(value: T | undefined | null, invariant: string): T {
  if (value === undefined || value === null) {
    throw new AssertionError(`broken invariant: ${invariant}`);
  }
  return value;
}
