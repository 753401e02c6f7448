// Reproducible guest writes: the same seed, block size and disk size give the same places and bytes
// on every machine. A cipher's key stream makes both, because it is fast and defined once for all.

import { createCipheriv, createHash, type Cipheriv } from 'node:crypto';

class KeyStream {
  readonly #cipher: Cipheriv;

  constructor(seed: string) {
    const key = createHash('sha256').update(seed).digest();
    this.#cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
  }

  next(lengthBytes: number): Buffer {
    return this.#cipher.update(Buffer.alloc(lengthBytes));
  }
}

export interface RandomWrite {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** `count` writes of whole blocks, anywhere on a disk that has room for one block at least. */
export function* randomWrites(
  seed: string,
  count: number,
  blockBytes: number,
  diskBytes: number,
): Generator<RandomWrite> {
  const places = new KeyStream(`places ${seed}`);
  const data = new KeyStream(`data ${seed}`);
  const blockCount = BigInt(Math.floor(diskBytes / blockBytes));
  for (let index = 0; index < count; index++) {
    const block = Number(places.next(8).readBigUInt64LE(0) % blockCount);
    yield { offset: block * blockBytes, bytes: data.next(blockBytes) };
  }
}
