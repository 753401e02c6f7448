// CRC-32C (Castagnoli), reflected, slicing by eight. VHDX checksums headers, region tables and log
// entries with it; node:zlib's crc32 is another polynomial and must not be used in its place.
// Check value: crc32c("123456789") = 0xe3069283.

const POLYNOMIAL = 0x82f63b78;
const tables = buildTables();

function buildTables(): Uint32Array {
  const out = new Uint32Array(8 * 256);
  for (let n = 0; n < 256; n++) {
    let crc = n;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    out[n] = crc >>> 0;
  }
  for (let n = 0; n < 256; n++) {
    let crc = out[n] ?? 0;
    for (let slice = 1; slice < 8; slice++) {
      crc = (out[crc & 0xff] ?? 0) ^ (crc >>> 8);
      out[slice * 256 + n] = crc >>> 0;
    }
  }
  return out;
}

/**
 * CRC-32C of `bytes` as an unsigned number; pass the result of an earlier call as `previous` to go
 * on with it.
 */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  const t = tables;
  let crc = ~previous >>> 0;
  let i = 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wholeWords = bytes.byteLength - (bytes.byteLength % 8);
  /* eslint-disable @typescript-eslint/no-non-null-assertion -- every index is masked into the table */
  for (; i < wholeWords; i += 8) {
    const low = crc ^ view.getUint32(i, true);
    const high = view.getUint32(i + 4, true);
    crc =
      t[0x700 + (low & 0xff)]! ^
      t[0x600 + ((low >>> 8) & 0xff)]! ^
      t[0x500 + ((low >>> 16) & 0xff)]! ^
      t[0x400 + (low >>> 24)]! ^
      t[0x300 + (high & 0xff)]! ^
      t[0x200 + ((high >>> 8) & 0xff)]! ^
      t[0x100 + ((high >>> 16) & 0xff)]! ^
      t[high >>> 24]!;
  }
  for (; i < bytes.byteLength; i++) crc = t[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  /* eslint-enable @typescript-eslint/no-non-null-assertion */
  return ~crc >>> 0;
}
