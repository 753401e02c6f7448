// Sizes and offsets as people type them (cli.md): bytes, or with K, M, G, T for powers of 1024.
// Pure. Every result is a whole number of bytes that a double holds exactly.

import { DrError } from './errors.js';

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/** Largest disk of the VHDX format, 64 TiB. */
export const MAX_DISK_BYTES: number = 64 * 1024 ** 4;

export interface SizeLimits {
  /** Smallest legal value in bytes. Default 0. */
  readonly min?: number;
  /** Largest legal value in bytes. Default: 64 TiB, the largest disk. */
  readonly max?: number;
}

/**
 * Bytes of a size such as `512`, `64K`, `1.5G`. A fraction is legal where it makes whole bytes.
 * `what` names the option or argument for the message.
 * @throws DrError E_USAGE
 */
export function parseSize(text: string, what = 'size', limits: SizeLimits = {}): number {
  const min = limits.min ?? 0;
  const max = limits.max ?? MAX_DISK_BYTES;
  const match = /^(\d{1,17})(?:\.(\d{1,15}))?([KMGT]?)$/i.exec(text);
  const factor = FACTORS[(match?.[3] ?? '').toUpperCase()];
  if (match === null || factor === undefined) {
    throw new DrError('E_USAGE', `${what} "${text}" is not a size`, {
      hint: 'write bytes, or a number with K, M, G or T (powers of 1024), for example 64K',
    });
  }
  // exact arithmetic: whole and fraction together over a power of ten, then times the unit
  const fraction = match[2] ?? '';
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(`${match[1] ?? ''}${fraction}`) * BigInt(factor);
  if (scaled % scale !== 0n) {
    throw new DrError('E_USAGE', `${what} "${text}" is not a whole number of bytes`, {
      hint: 'write it in bytes, or with a smaller unit',
    });
  }
  const bytes = scaled / scale;
  if (bytes < BigInt(min) || bytes > BigInt(max)) {
    throw new DrError(
      'E_USAGE',
      `${what} ${text} is out of range: ${formatSize(min)} to ${formatSize(max)} are legal`,
      { context: { min, max } },
    );
  }
  return Number(bytes);
}

/** A size for people, with the largest unit that keeps it exact or two decimals: `64 KiB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = Number.isInteger(value) ? 0 : value < 10 ? 2 : 1;
  return `${value.toFixed(digits)} ${units[unit] ?? 'B'}`;
}
