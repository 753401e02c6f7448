// Several works at once, of which none may still be under way when one has failed: the next step, which
// is to take back or to close, must not meet them.

/** Returns when all have ended. @throws the first failure, in their order */
export async function allDone(works: Iterable<Promise<unknown>>): Promise<void> {
  for (const result of await Promise.allSettled(works)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
