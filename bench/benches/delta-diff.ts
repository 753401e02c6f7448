// Finding a delta without change tracking: both images are read in full.

import { join } from 'node:path';
import { type Bench, GIB, speedGoal } from '../bench.js';
import { CELL_BYTES, scatteredCells, writeRandomFile, writeRuns } from '../data.js';
import { perform } from '../measure.js';
import { cat, copy, expectSameFile, opensslSha256, qemuImg, sync } from '../peers.js';
import { removeFile } from './files.js';

const DISK_BYTES = 4 * GIB;
const CHANGED_SHARE = 0.04;
const OURS = 'hvdr pcbt diff';
const OURS_MANIFEST = 'hvdr pcbt diff --manifest';
const PEER = 'qemu-img rebase + sync';
const HASHES = 'openssl sha256 OLD NEW';
const READS = 'cat OLD NEW';

export const deltaDiff: Bench = {
  name: 'delta-diff',
  question:
    'Two raw images of 4 GiB with 4 % of their cells changed become a delta, durable; qemu-img rebase does the same work into a qcow2 overlay.',
  spaceBytes: 15 * GIB,
  programs: ['qemu-img', 'openssl'],
  async prepare({ folder, product }) {
    const at = (file: string): string => join(folder, file);
    const [old, changed, delta, manifest, rebuilt] = [
      at('old.raw'),
      at('new.raw'),
      at('delta.cbt'),
      at('delta.manifest'),
      at('rebuilt.raw'),
    ];
    const overlay = at('overlay.qcow2');
    writeRandomFile(old, DISK_BYTES, 'delta-diff');
    await perform(copy(old, changed));
    const cellCount = DISK_BYTES / CELL_BYTES;
    const cells = scatteredCells(Math.round(cellCount * CHANGED_SHARE), cellCount, 'delta-diff');
    writeRuns(changed, cells, 'delta-diff new');
    const common = { payloadBytes: DISK_BYTES, inputs: [old, changed] };
    return {
      settings: { disk: '4 GiB', changed: `${cells.length} cells of 64 KiB` },
      contenders: [
        {
          ...common,
          name: OURS,
          role: 'ours',
          prepare: () => removeFile(delta),
          commands: () => [product.hvdr('pcbt', 'diff', old, changed, '--out', delta)],
          async verify() {
            await perform(product.hvdr('pcbt', 'apply', old, delta, '--out', rebuilt));
            await expectSameFile(changed, rebuilt);
            await removeFile(rebuilt);
          },
        },
        {
          ...common,
          name: OURS_MANIFEST,
          role: 'ours',
          prepare: () => removeFile(delta, manifest),
          commands: () => [
            product.hvdr('pcbt', 'diff', old, changed, '--out', delta, '--manifest', manifest),
          ],
        },
        {
          ...common,
          name: PEER,
          role: 'peer',
          async prepare() {
            await removeFile(overlay);
            await perform(
              qemuImg('create', '-q', '-f', 'qcow2', '-b', changed, '-F', 'raw', overlay),
            );
          },
          commands: () => [qemuImg('rebase', '-b', old, '-F', 'raw', overlay), sync(overlay)],
          async verify() {
            await perform(qemuImg('compare', '-f', 'qcow2', '-F', 'raw', overlay, changed));
          },
        },
        {
          ...common,
          name: HASHES,
          role: 'limit',
          commands: () => [opensslSha256(old, changed)],
        },
        { ...common, name: READS, role: 'limit', commands: () => [cat(old, changed)] },
      ],
      goals: [
        { ...speedGoal(OURS, PEER, 1), text: `speed against ${PEER}` },
        { ...speedGoal(OURS, HASHES, 1), text: `speed against ${HASHES}` },
      ],
    };
  },
};
