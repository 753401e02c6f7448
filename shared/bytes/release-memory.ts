// Large buffers that are garbage at once and many: without this they wait for a collection of the
// old generation, and the process grows by hundreds of MiB (docs/protocol.md, "Memory").

/**
 * Gives the memory of a buffer back at once, instead of when the collector comes round. Nobody may
 * use the buffer afterwards: it has the length 0. A buffer that is a part of other memory is left
 * as it is. A handler may do this to the bytes of a request that passes as bytes (the push stream).
 */
export function releaseMemory(bytes: Buffer): void {
  const { buffer } = bytes;
  if (buffer.byteLength !== bytes.length || !('transfer' in buffer)) return;
  // in every supported Node, but not in the library that the compiler is set to
  (buffer as ArrayBuffer & { transfer(lengthBytes: number): ArrayBuffer }).transfer(0);
}
