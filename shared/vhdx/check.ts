// A read-only audit of a file and its chain: the same rules as opening, but every violation is
// collected, each with structure and offset. Never writes, never stops at the first finding.

import path from 'node:path';
import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { openVhdx } from './chain.js';
import { HEADER_BYTES, HEADER_OFFSETS } from './format.js';
import { parseHeader } from './header.js';
import { readIntent } from './merge-intent.js';
import { loadStructures, type Structures } from './structures.js';
import { VhdxError, type Violation } from './violation.js';

/** More findings than this are counted, not kept. */
const FINDINGS_KEPT = 1000;

export interface CheckResult {
  readonly violations: readonly Violation[];
  /** All violations, also those beyond the ones kept. */
  readonly violationCount: number;
  readonly warnings: readonly string[];
  /** True when the whole file could be looked at; else the first violation hid the rest. */
  readonly isComplete: boolean;
  /** Files of the chain below this one, when it could be opened. */
  readonly parents: readonly string[];
}

export async function checkVhdx(
  file: string,
  { fs, random }: { fs: FileSystem; random: Random },
): Promise<CheckResult> {
  const violations: Violation[] = [];
  let violationCount = 0;
  const report = (violation: Violation): undefined => {
    violationCount++;
    if (violations.length < FINDINGS_KEPT) violations.push(violation);
    return undefined;
  };
  const warnings: string[] = [];
  const parents: string[] = [];
  let structures: Structures | undefined;
  const handle = await fs.open(file, { mode: 'read', lock: 'shared' });
  try {
    structures = await loadStructures(handle, { report, isForWriting: false });
    if (structures !== undefined) {
      warnings.push(...structures.warnings);
      for (const [index, offset] of HEADER_OFFSETS.entries()) {
        const bytes = Buffer.alloc(HEADER_BYTES);
        await handle.read(offset, bytes);
        if (parseHeader(bytes) === undefined) {
          warnings.push(`header ${index + 1} is damaged, the other one is used`);
        }
      }
    }
  } finally {
    await handle.close();
  }
  const intent =
    structures === undefined ? undefined : await readIntent(fs, await fs.realPath(file));
  if (intent !== undefined) {
    warnings.push(`the merge of ${intent.child} into it is not finished: merge it again`);
  }
  if (structures?.locator !== undefined && violationCount === 0) {
    try {
      const disk = await openVhdx(file, { fs, random });
      parents.push(...disk.layers.slice(1).map((layer) => path.basename(layer.path)));
      await disk.close();
    } catch (error) {
      report(chainViolation(error, await fs.realPath(file)));
    }
  }
  return {
    violations,
    violationCount,
    warnings,
    isComplete: structures !== undefined,
    parents,
  };
}

/** What opening the chain refused, as a finding about `file` or about one of its parents. */
function chainViolation(error: unknown, file: string): Violation {
  if (error instanceof VhdxError) {
    const { violation } = error;
    if (error.context['file'] === file) return violation;
    return { code: violation.code, structure: 'chain', message: error.message };
  }
  if (error instanceof DrError && error.code !== 'E_LOCKED') {
    return {
      code: 'E_VHDX_CHAIN',
      structure: 'chain',
      message: `${error.code}: ${error.message}`,
    };
  }
  throw error;
}
