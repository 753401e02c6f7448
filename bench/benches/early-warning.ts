// What the early warning costs where every byte passes. What it finds is told by another program,
// bench/early-warning-scenarios.ts, whose figures are cycles and not seconds.

import { createWriteStream, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Bench, type Contender, cpuGoal, GIB, MIB } from '../bench.js';
import { writeRandomFile } from '../data.js';

const CPU_MAX = 1.15;
const SEEN_MIB = 64;

/** Programs, over and over: the running Node. */
async function writePrograms(path: string, sizeBytes: number): Promise<void> {
  const part = readFileSync(process.execPath).subarray(0, SEEN_MIB * MIB);
  const out = createWriteStream(path);
  for (let written = 0; written < sizeBytes; written += part.length) {
    if (!out.write(part.subarray(0, sizeBytes - written))) await once(out, 'drain');
  }
  out.end();
  await once(out, 'close');
}

export const earlyWarning: Bench = {
  name: 'early-warning',
  question:
    'Cells of random data, which are looked at most closely, and of programs are hashed; what does looking for encryption add?',
  sizeBytes: GIB,
  spaceBytes: 2.1 * GIB,
  programs: [],
  async prepare({ folder, product, sizeBytes }) {
    const kinds = ['random', 'programs'] as const;
    const pathOf = (kind: string): string => join(folder, kind);
    writeRandomFile(pathOf('random'), sizeBytes, 'early-warning');
    await writePrograms(pathOf('programs'), sizeBytes);
    const contender = (kind: string, mode: 'hashed' | 'screened'): Contender => ({
      name: `${kind}, ${mode}`,
      role: mode === 'hashed' ? 'limit' : 'ours',
      payloadBytes: sizeBytes,
      inputs: [pathOf(kind)],
      commands: () => [product.helper('early-warning-cost', mode, pathOf(kind))],
    });
    return {
      settings: { 'data MiB': sizeBytes / MIB, cell: '64 KiB' },
      contenders: kinds.flatMap((kind) => [contender(kind, 'screened'), contender(kind, 'hashed')]),
      goals: kinds.map((kind) => cpuGoal(`${kind}, screened`, `${kind}, hashed`, CPU_MAX)),
    };
  },
};
