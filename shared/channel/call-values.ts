// From the messages of a direction to the values that handlers and callers see.

import { DrError } from '../errors.js';

/** @throws DrError E_PROTOCOL */
export function decode(deserialize: (bytes: Buffer) => unknown, bytes: Buffer): unknown {
  try {
    return deserialize(bytes);
  } catch (error) {
    if (error instanceof DrError) throw error;
    throw new DrError('E_PROTOCOL', 'a message of the other side cannot be read', {
      cause: error,
    });
  }
}

/** The one value of a unary direction. @throws DrError E_PROTOCOL */
export async function single(values: AsyncIterable<unknown>): Promise<unknown> {
  let count = 0;
  let found: unknown;
  for await (const value of values) {
    count++;
    if (count > 1) break;
    found = value;
  }
  if (count !== 1) {
    throw new DrError('E_PROTOCOL', `${count} messages arrived where there is exactly one`);
  }
  return found;
}
