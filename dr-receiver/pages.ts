// Cuts a long list into pieces that fit into one message of the channel each.

/** A quarter of what a message may have: one more item never makes a piece too large. */
const PAGE_BYTES = 256 * 1024;

/** The items in their order, in at least one piece; `bytesOf` is what an item takes in a message. */
export async function* pagesOf<T>(
  items: AsyncIterable<T> | Iterable<T>,
  bytesOf: (item: T) => number,
): AsyncGenerator<T[]> {
  let page: T[] = [];
  let pageBytes = 0;
  for await (const item of items) {
    page.push(item);
    pageBytes += bytesOf(item);
    if (pageBytes < PAGE_BYTES) continue;
    yield page;
    page = [];
    pageBytes = 0;
  }
  yield page;
}
