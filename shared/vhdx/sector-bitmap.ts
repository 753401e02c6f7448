// Sector bitmaps (§ 5.3): one bit for each virtual sector, least significant bit first; 1 = in this
// file, 0 = ask the parent. Pure functions over the bytes that describe one block.

/** A run of equal bits, [start, end). */
export interface BitRun {
  readonly start: number;
  readonly end: number;
  readonly isSet: boolean;
}

/** The runs of equal bits in [startBit, endBit), in order; whole words are taken at once. */
export function bitRuns(bytes: Buffer, startBit: number, endBit: number): BitRun[] {
  const runs: BitRun[] = [];
  let bit = startBit;
  while (bit < endBit) {
    const isSet = isBitSet(bytes, bit);
    const end = endOfRun(bytes, bit, endBit, isSet);
    runs.push({ start: bit, end, isSet });
    bit = end;
  }
  return runs;
}

function isBitSet(bytes: Buffer, bit: number): boolean {
  return (bytes.readUInt8(bit >>> 3) & (1 << (bit & 7))) !== 0;
}

function endOfRun(bytes: Buffer, startBit: number, endBit: number, isSet: boolean): number {
  const whole = isSet ? 0xffffffff : 0;
  let bit = startBit;
  while (bit < endBit) {
    if (bit % 32 === 0 && bit + 32 <= endBit && bytes.readUInt32LE(bit >>> 3) === whole) {
      bit += 32;
    } else if (isBitSet(bytes, bit) === isSet) {
      bit++;
    } else {
      return bit;
    }
  }
  return endBit;
}

/** Sets the bits [startBit, endBit). */
export function setBits(bytes: Buffer, startBit: number, endBit: number): void {
  let bit = startBit;
  while (bit < endBit) {
    if (bit % 8 === 0 && bit + 8 <= endBit) {
      const wholeBytes = Math.floor((endBit - bit) / 8);
      bytes.fill(0xff, bit >>> 3, (bit >>> 3) + wholeBytes);
      bit += wholeBytes * 8;
    } else {
      bytes.writeUInt8(bytes.readUInt8(bit >>> 3) | (1 << (bit & 7)), bit >>> 3);
      bit++;
    }
  }
}

/** True when every bit of [0, bitCount) is set. */
export function areAllSet(bytes: Buffer, bitCount: number): boolean {
  return endOfRun(bytes, 0, bitCount, true) === bitCount;
}
