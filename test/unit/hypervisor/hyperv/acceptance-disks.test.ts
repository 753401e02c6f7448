// The hand of an acceptance at a host of Hyper-V: which file and which checkpoint each call is about.

import { expect } from 'chai';
import { guid } from '../../../../shared/bytes/index.js';
import { systemRandom } from '../../../../shared/clock.js';
import { DrError } from '../../../../shared/errors.js';
import { Fields } from '../../../../shared/hypervisor/fields.js';
import {
  acceptanceOf,
  AcceptanceDisks,
} from '../../../../shared/hypervisor/hyperv/acceptance-disks.js';
import type {
  Arguments,
  Operation,
} from '../../../../shared/hypervisor/hyperv/powershell/operation.js';
import type { AcceptancePort } from '../../../../shared/acceptance/index.js';
import { createVhdx, openVhdx } from '../../../../shared/vhdx/index.js';
import { AcceptanceHost, rangesOf } from '../../../support/acceptance-host.js';

const POINT = guid('22222222-0000-4000-8000-000000000001');

/** Answers as acceptance.ps1 shapes them (Checkpoint-VM -Passthru, Get-VMSnapshot: type VMSnapshot). */
const ANSWERS: Readonly<Record<string, Record<string, unknown>>> = {
  'acceptance.addCheckpoint': { checkpointId: POINT.toUpperCase() },
  'acceptance.listCheckpoints': { checkpointIds: [POINT.toUpperCase()] },
  'acceptance.applyCheckpoint': { done: 'yes' },
  'acceptance.removeCheckpoint': { done: 'yes' },
};

describe('the hand of an acceptance at Hyper-V', () => {
  it('writes to, grows and reads the file that the VM is on, and asks for checkpoints by id', async () => {
    const { fs, lab } = await AcceptanceHost.make();
    const asked: string[] = [];
    const seams = { fs, random: systemRandom };
    await createVhdx('/host/a.vhdx', { type: 'dynamic', sizeBytes: 1024 * 1024 }, seams);
    const vmId = await lab.createVm({ name: 'a', disks: [] });
    const definition = await lab.describeVm(vmId);
    const own = new AcceptanceDisks({
      vms: {
        describeVm: () =>
          Promise.resolve({
            ...definition,
            disks: [
              {
                ...{
                  diskId: POINT,
                  controller: 'scsi',
                  controllerNumber: 0,
                  controllerLocation: 0,
                },
                ...{ sizeBytes: 1024 * 1024, logicalSectorBytes: 512, physicalSectorBytes: 4096 },
                path: '/host/a.vhdx',
              },
            ],
          }),
      },
      disks: {
        inspect: (path) =>
          Promise.resolve({
            ...{ diskId: POINT, sizeBytes: 1, fileBytes: 1, blockBytes: 1, kind: 'differencing' },
            ...{ logicalSectorBytes: 512, physicalSectorBytes: 512 },
            ...{ parentPath: path, tracking: undefined },
          }),
        openFrozen: (path) => openVhdx(path, seams),
        openWritable: (path) => openVhdx(path, { ...seams, isWritable: true }),
        grow: (path, sizeBytes) => {
          asked.push(`grow ${path} to ${sizeBytes}`);
          return Promise.resolve();
        },
      },
      runner: {
        run: <A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R> => {
          const { checkpointId: of = '' } = args;
          asked.push(`${operation.name} ${typeof of === 'string' ? of : ''}`);
          const refuse = (field: string): DrError => new DrError('E_HYPERVISOR', field);
          return Promise.resolve(operation.read(new Fields(ANSWERS[operation.name] ?? {}, refuse)));
        },
        close: () => Promise.resolve(),
      },
      rangesByWmi: () => rangesOf({ start: 0, end: 512 }),
    });
    await own.writeOffline(vmId, 0, 512, Buffer.alloc(512, 7));
    const disk = await own.openNative('/host/a.vhdx');
    const bytes = Buffer.alloc(1024);
    await disk.read(0, bytes);
    await disk.close();
    expect([bytes[511], bytes[512]]).to.deep.equal([0, 7]);
    await own.growDisk(vmId, 0, 2048);
    const id = await own.addUserCheckpoint(vmId);
    expect(await own.listUserCheckpoints(vmId)).to.deep.equal([id]);
    await own.applyUserCheckpoint(vmId, id);
    await own.removeUserCheckpoint(vmId, id);
    expect(asked).to.deep.equal([
      'grow /host/a.vhdx to 2048',
      'acceptance.addCheckpoint ',
      'acceptance.listCheckpoints ',
      `acceptance.applyCheckpoint ${POINT}`,
      `acceptance.removeCheckpoint ${POINT}`,
    ]);
    expect((await own.inspect('/host/b.vhdx')).parentPath).to.equal('/host/b.vhdx');
    const port: AcceptancePort | undefined = acceptanceOf({ acceptance: own });
    expect(port).to.equal(own);
    expect(port?.isIndependent).to.equal(true);
    expect([acceptanceOf({}), acceptanceOf(lab)]).to.deep.equal([undefined, undefined]);
  });
});
