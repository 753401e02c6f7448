// What a damage is: see vhdx-damages.ts.

import { guid } from '../../shared/bytes/index.js';
import type { VhdxErrorCode } from '../../shared/vhdx/violation.js';
import type { VhdxForge } from './vhdx-forge.js';
import type { SeedName } from './vhdx-seeds.js';

export interface Expected {
  readonly code: VhdxErrorCode;
  readonly structure: string;
  readonly offset: number;
}

export interface Damage {
  /** Number of the point in § 9. */
  readonly point: number;
  readonly name: string;
  readonly seed: SeedName;
  /** Tolerated when reading (a warning), refused when writing. */
  readonly isWriteOnly?: boolean;
  readonly apply: (forge: VhdxForge) => Expected;
}

export const UNKNOWN_GUID = guid('0badf00d-1234-4321-8000-00aa00bb00cc');
export const TIB = 1024 ** 4;

export function expected(code: VhdxErrorCode, structure: string, offset: number): Expected {
  return { code, structure, offset };
}

/** A list of damages and the function that adds to it. */
export class DamageList {
  readonly all: Damage[] = [];

  readonly add = (
    point: number,
    name: string,
    seed: SeedName,
    apply: (forge: VhdxForge) => Expected,
    options: { isWriteOnly?: boolean } = {},
  ): void => {
    this.all.push({ point, name, seed, apply, ...options });
  };
}
