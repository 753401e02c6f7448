// What only a running guest can show. Its image is the user's; a copy of it runs, on no network but a private one.

import { createHash } from 'node:crypto';
import path from 'node:path';
import { assert, defined } from '../../assert.js';
import type { Guid } from '../../bytes/index.js';
import type { ReadableDisk } from '../../disk/index.js';
import { DrError } from '../../errors.js';
import { convertImage } from '../../image/index.js';
import type { VmDefinition } from '../../hypervisor/index.js';
import { type Bench, MIB, rangeText, diskAt } from '../bench.js';

const LOOK_AGAIN_MS = 2_000;
/** A guest writes by itself meanwhile: logs, page file, time stamps. */
const BETWEEN_CHECKPOINTS_MS = 20_000;

export async function guest(bench: Bench): Promise<void> {
  const { host, seams } = bench;
  const wish = seams.guest;
  assert(wish !== undefined, 'the probe runs with a guest only');
  const image = bench.file('guest.vhdx');
  await seams.fs.makeFolder(path.dirname(image));
  const { fs, random, signal } = seams;
  await convertImage(wish.image, image, { to: 'vhdx', signal }, { fs, random });
  const { vmId } = await bench.makeVm({
    diskBytes: [],
    files: [image],
    adapterCount: 2,
    generation: wish.generation,
  });
  await host.startVm(vmId);
  const beat = await until(bench, wish.bootMs, async () => (await host.heartbeat(vmId)) === 'ok');
  bench.check(
    'heartbeat-seen',
    beat !== undefined,
    beat === undefined
      ? `none within ${wish.bootMs / 1000} s`
      : `seen ${Math.round(beat / 1000)} s after the start`,
  );
  await applicationConsistent(bench, vmId);
  await guestWrites(bench, vmId);
  await newAddress(bench, vmId, wish.address);
  await shutDown(bench, vmId, wish.bootMs);
}

async function applicationConsistent(bench: Bench, vmId: Guid): Promise<void> {
  const { host } = bench;
  try {
    const request = { ...bench.request, consistency: 'application' } as const;
    const { id, consistency } = await host.createCheckpoint(vmId, request);
    await host.removeCheckpoint(vmId, id);
    await host.waitForMerge(vmId, bench.seams.timeoutMs);
    bench.check('application-consistent', consistency === 'application', `it is ${consistency}`);
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_CONSISTENCY') throw error;
    bench.check('application-consistent', false, error.line);
  }
}

/** Two checkpoints of the running guest: cells that differ have to lie in the ranges. */
async function guestWrites(bench: Bench, vmId: Guid): Promise<void> {
  const { host, seams } = bench;
  const first = await host.createCheckpoint(vmId, bench.request);
  const before = await hashes(await bench.openFrozen(first));
  const point = await host.convertToReferencePoint(vmId, first.id);
  await host.waitForMerge(vmId, seams.timeoutMs);
  await seams.clock.sleep(BETWEEN_CHECKPOINTS_MS, seams.signal);
  await bench.withCheckpoint(vmId, async (second) => {
    const { trackingId } = diskAt(point.disks);
    const ranges = await bench.ranges(second, trackingId);
    const after = await hashes(await bench.openFrozen(second));
    const changed = after.flatMap((hash, index) => (hash === before[index] ? [] : [index]));
    if (ranges === 'invalid') {
      bench.check('guest-writes-reported', false, 'the id of the first checkpoint is invalid');
      return;
    }
    // a cell may have changed in any part of it: it has to be touched
    const cells = changed.map((index) => ({ start: index * MIB, end: (index + 1) * MIB }));
    const missed = cells.find(
      (cell) => !ranges.some(({ start, end }) => start < cell.end && cell.start < end),
    );
    bench.check(
      'guest-writes-reported',
      missed === undefined,
      missed === undefined
        ? `${changed.length} of ${after.length} MiB changed, all of them in ${ranges.length} ranges`
        : `${rangeText(missed)} changed and is in none of ${ranges.length} ranges`,
    );
  });
}

async function hashes(disk: ReadableDisk): Promise<string[]> {
  try {
    const all: string[] = [];
    for (let at = 0; at < disk.sizeBytes; at += MIB) {
      const piece = Buffer.alloc(Math.min(MIB, disk.sizeBytes - at));
      await disk.read(at, piece);
      all.push(createHash('sha256').update(piece).digest('base64'));
    }
    return all;
  } finally {
    await disk.close();
  }
}

async function newAddress(bench: Bench, vmId: Guid, address: string): Promise<void> {
  const { host, seams } = bench;
  const [first, second] = (await host.describeVm(vmId)).adapters;
  const adapters = defined(second, 'the VM has two adapters');
  const other = defined(first, 'the VM has two adapters');
  await host.setGuestAddress(vmId, adapters.id, {
    ...{ isDhcp: false, addresses: [address], gateways: [], dnsServers: [] },
  });
  const addressesOf = ({ adapters: all }: VmDefinition, id: Guid): readonly string[] =>
    all.find((adapter) => adapter.id === id)?.guest.addresses ?? [];
  let seen = await host.describeVm(vmId);
  const took = await until(bench, seams.timeoutMs, async () => {
    seen = await host.describeVm(vmId);
    return addressesOf(seen, adapters.id).includes(address);
  });
  const isOthers = addressesOf(seen, other.id).includes(address);
  bench.check(
    're-ip-applied',
    took !== undefined && !isOthers,
    isOthers
      ? 'the other adapter has the address'
      : took === undefined
        ? `not read back; the adapter has ${addressesOf(seen, adapters.id).join(', ')}`
        : `read back after ${Math.round(took / 1000)} s, at the second of two adapters`,
  );
}

async function shutDown(bench: Bench, vmId: Guid, timeoutMs: number): Promise<void> {
  const { host } = bench;
  try {
    await host.shutDownVm(vmId, timeoutMs);
    const power = (await host.summaryOf(vmId))?.powerState;
    bench.check('shut-down-asked', power === 'off', `it is ${power ?? 'gone'}`);
  } catch (error) {
    if (!(error instanceof DrError) || error.code !== 'E_SHUTDOWN_TIMEOUT') throw error;
    bench.check('shut-down-asked', false, error.line);
  }
}

/** How long it took; undefined when it did not come. */
async function until(
  { seams: { clock, signal } }: Bench,
  limitMs: number,
  isSo: () => Promise<boolean>,
): Promise<number | undefined> {
  const startedAt = clock.monotonic();
  for (;;) {
    if (await isSo()) return clock.monotonic() - startedAt;
    if (clock.monotonic() - startedAt >= limitMs) return undefined;
    await clock.sleep(LOOK_AGAIN_MS, signal);
  }
}
