// What a failover asks of a host: a VM over a disk that lies on a restore point starts, alone, and leaves the point as it
// was. And, where the host replicates by itself, whether it tells how a VM of its own stands. Only VMs of the
// acceptance are asked about: a test failover of Hyper-V Replica wants a replica, which another host makes.

import { createHash } from 'node:crypto';
import { defined } from '../../assert.js';
import { DrError } from '../../errors.js';
import { openVhdx } from '../../vhdx/index.js';
import { type Bench, MIB } from '../bench.js';
import { bootSector, SECTOR_BYTES, writtenOf, writtenSector } from '../boot-sector.js';

const SIZE = 64 * MIB;
const LBAS = [2048, 50_001];
/** A BIOS takes some seconds to the boot sector. */
const BOOT_MS = 60_000;
const PIECE = 1024 * 1024;

export async function testFailover(bench: Bench): Promise<void> {
  const { host, port, seams } = bench;
  const boot = bootSector(LBAS);
  const point = await bench.makeDisk('point.vhdx', SIZE, boot);
  const before = await digestOf(bench, point);
  const top = await bench.makeChild('test.vhdx', point);
  const { vmId } = await bench.makeVm({ diskBytes: [], files: [top], generation: 1 });
  await host.startVm(vmId);
  if (port.playBoot === undefined) {
    await seams.clock.sleep(BOOT_MS, seams.signal);
  } else {
    const writes = LBAS.map((lba) => ({
      offset: lba * SECTOR_BYTES,
      bytes: writtenSector(boot, lba),
    }));
    await port.playBoot(vmId, writes);
  }
  const power = (await host.summaryOf(vmId))?.powerState;
  const { adapters } = await host.describeVm(vmId);
  const switches = adapters.flatMap(({ switchName }) => switchName ?? []);
  bench.check(
    'test-vm-alone',
    power === 'running' && adapters.length > 0 && switches.length === 0,
    power !== 'running'
      ? `it does not run: it is ${power ?? 'gone'}`
      : switches.length > 0
        ? `it runs connected to ${switches.join(', ')}`
        : `${adapters.length} adapter unconnected while it runs`,
  );
  await host.turnOffVm(vmId);
  const written = await countWritten(bench, top, boot);
  const after = await digestOf(bench, point);
  if (after !== before) {
    bench.check('point-untouched', false, 'the file of the point is another one than before');
  } else if (written === 0) {
    bench.skip(
      'point-untouched',
      'the point is as it was, and the boot sector of generation 1 wrote nothing within a minute',
    );
  } else {
    bench.check(
      'point-untouched',
      true,
      `${written} of ${LBAS.length} writes are in the disk above; the point is the same to the byte`,
    );
  }
  await host.removeVm(vmId);
}

/** How many of its writes a machine has made, seen through the chain of its disk. */
async function countWritten({ seams }: Bench, file: string, boot: Buffer): Promise<number> {
  const { fs, random } = seams;
  const disk = await openVhdx(file, { fs, random });
  return (await writtenOf(disk, boot, LBAS).finally(() => disk.close())).length;
}

async function digestOf({ seams: { fs } }: Bench, file: string): Promise<string> {
  const { sizeBytes } = defined(await fs.status(file), 'the disk was made');
  const hash = createHash('sha256');
  const opened = await fs.open(file, { mode: 'read' });
  try {
    for (let at = 0; at < sizeBytes; at += PIECE) {
      const piece = Buffer.alloc(Math.min(PIECE, sizeBytes - at));
      await opened.read(at, piece);
      hash.update(piece);
    }
  } finally {
    await opened.close();
  }
  return hash.digest('hex');
}

export async function replica(bench: Bench): Promise<void> {
  const { host } = bench;
  if (host.replica === undefined) {
    bench.skip('replica-answers', 'this host has no replication of its own');
    return;
  }
  const { vmId } = await bench.makeVm({ diskBytes: [8 * MIB] });
  const faults: string[] = [];
  try {
    const { relation } = await host.replica.view(vmId);
    if (relation !== undefined) faults.push(`a new VM is ${relation.state}`);
    for (const verb of ['test', 'unplanned'] as const) {
      const { refusal } = await host.replica.plan(vmId, { verb, pointId: undefined });
      if (refusal === undefined) faults.push(`${verb} is not refused`);
    }
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    faults.push(error.line);
  }
  bench.check(
    'replica-answers',
    faults.length === 0,
    faults.length === 0
      ? 'a VM of its own is not replicated; test and failover of a replica are refused'
      : faults.join('; '),
  );
}
