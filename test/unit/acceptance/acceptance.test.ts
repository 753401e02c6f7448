// The acceptance of a host: a host that is right is confirmed; each behaviour that is wrong is refuted by the probe
// that is about it; nothing is left behind.

import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import {
  type Acceptance,
  acceptanceDocument,
  type AcceptancePort,
  acceptanceText,
  FACT_IDS,
  type FactId,
  factOf,
  type Host,
  isAccepted,
  PROBES,
} from '../../../shared/acceptance/index.js';
import type { ByteRange, ReplicaHost } from '../../../shared/hypervisor/index.js';
import { openVhdx } from '../../../shared/vhdx/index.js';
import { systemRandom } from '../../../shared/clock.js';
import { AcceptanceHost, OTHER_ID, rangesOf } from '../../support/acceptance-host.js';

const MIB = 1024 * 1024;
const ABOUT = { version: '1.0.0', platform: 'win32' };

const verdictOf = ({ answers }: Acceptance, fact: FactId): string =>
  `${fact}: ${answers.get(fact)?.verdict ?? 'no answer'}`;

interface Wrong {
  readonly what: string;
  readonly fact: FactId;
  readonly probe: string;
  readonly bend: (site: AcceptanceHost) => {
    readonly host?: Partial<Host>;
    readonly port?: Partial<AcceptancePort>;
  };
  readonly withGuest?: true;
}

const asIndependent: Partial<AcceptancePort> = { isIndependent: true };

async function* without(
  ranges: AsyncIterable<ByteRange>,
  isLeftOut: (range: ByteRange) => boolean,
): AsyncGenerator<ByteRange> {
  for await (const range of ranges) if (!isLeftOut(range)) yield range;
}

const nothing = (): AsyncGenerator<ByteRange> => rangesOf();

async function* invalid(): AsyncGenerator<ByteRange> {
  await Promise.resolve();
  yield* refused();
}

function refused(): readonly ByteRange[] {
  throw new DrError('E_TRACKING_INVALID', 'the id is not known any more');
}

const WRONG: readonly Wrong[] = [
  {
    what: 'a running VM that writes to the point below its disk',
    ...{ fact: 'point-untouched', probe: 'test-failover' },
    bend: ({ lab, fs }) => ({
      host: {
        turnOffVm: async (id) => {
          await lab.turnOffVm(id);
          const point = '/host/hvdr-acceptance/test-failover/point.vhdx';
          const file = await fs.open(point, { mode: 'write' });
          await file.write(40_000, Buffer.from('a byte')); // where a VHDX has nothing
          await file.close();
        },
      },
    }),
  },
  {
    what: 'a test VM that runs on a network',
    ...{ fact: 'test-vm-alone', probe: 'test-failover' },
    bend: ({ lab }) => ({
      host: {
        describeVm: async (id) => {
          const vm = await lab.describeVm(id);
          const adapters = vm.adapters.map((adapter) => ({ ...adapter, switchName: 'LAN' }));
          return { ...vm, adapters };
        },
      },
    }),
  },
  {
    what: 'a replica that may be failed over and is none',
    ...{ fact: 'replica-answers', probe: 'replica' },
    bend: () => ({
      host: {
        replica: {
          ...NO_REPLICAS,
          plan: async (...wish) => ({ ...(await NO_REPLICAS.plan(...wish)), refusal: undefined }),
        },
      },
    }),
  },
  {
    what: 'a VM that starts by itself',
    ...{ fact: 'registered-from-parts', probe: 'registration' },
    bend: ({ lab }) => ({
      host: { describeVm: async (id) => ({ ...(await lab.describeVm(id)), isAutoStart: true }) },
    }),
  },
  {
    what: 'a removal that takes the disks along',
    ...{ fact: 'removal-leaves-disks', probe: 'registration' },
    bend: ({ lab, fs }) => ({
      host: {
        removeVm: async (id) => {
          const [disk] = (await lab.describeVm(id)).disks;
          await lab.removeVm(id);
          await fs.remove(disk?.path ?? '');
        },
      },
    }),
  },
  {
    what: 'another disk id than was written',
    ...{ fact: 'disk-id-kept', probe: 'checkpoints' },
    bend: ({ lab }) => ({
      host: {
        describeVm: async (id) => {
          const vm = await lab.describeVm(id);
          return { ...vm, disks: vm.disks.map((disk) => ({ ...disk, diskId: OTHER_ID })) };
        },
      },
    }),
  },
  {
    what: 'a frozen disk with one wrong bit',
    ...{ fact: 'frozen-read', probe: 'checkpoints' },
    bend: ({ lab }) => ({
      host: {
        openCheckpointDisk: async (...place) => {
          const disk = await lab.openCheckpointDisk(...place);
          const read = disk.read.bind(disk);
          return Object.assign(disk, {
            read: async (offset: number, target: Uint8Array) => {
              await read(offset, target);
              if (offset === 0) target[700] = (target[700] ?? 0) ^ 1;
            },
          });
        },
      },
    }),
  },
  {
    what: 'a map that calls data zero',
    ...{ fact: 'frozen-read', probe: 'checkpoints' },
    bend: ({ lab }) => ({
      host: {
        openCheckpointDisk: async (...place) => {
          const disk = await lab.openCheckpointDisk(...place);
          return Object.assign(disk, {
            async *extents(start: number, end: number) {
              await Promise.resolve();
              yield { start, end, kind: 'zero' as const };
            },
          });
        },
      },
    }),
  },
  {
    what: 'a checkpoint without one of the disks',
    ...{ fact: 'disk-id-kept', probe: 'checkpoints' },
    bend: ({ lab }) => ({
      host: {
        createCheckpoint: async (...wish) => {
          const checkpoint = await lab.createCheckpoint(...wish);
          return { ...checkpoint, disks: [...checkpoint.disks].reverse() };
        },
      },
    }),
  },
  {
    what: 'a reference point without an id',
    ...{ fact: 'conversion-tracks', probe: 'checkpoints' },
    bend: ({ lab }) => ({
      host: {
        convertToReferencePoint: async (...place) => {
          const point = await lab.convertToReferencePoint(...place);
          return { ...point, disks: point.disks.map((disk) => ({ ...disk, trackingId: '' })) };
        },
      },
    }),
  },
  {
    what: 'a merge that never ends',
    ...{ fact: 'merge-ends', probe: 'checkpoints' },
    bend: ({ lab }) => {
      let looks = 0;
      return {
        host: {
          describeVm: async (id) => {
            const vm = await lab.describeVm(id);
            if (++looks < 3) return vm;
            return {
              ...vm,
              disks: vm.disks.map((disk) => ({ ...disk, path: `${disk.path}.avhdx` })),
            };
          },
        },
      };
    },
  },
  ...(['known-writes-reported', 'offline-edit-safe'] as const).map((fact): Wrong => ({
    what: `changed ranges without the write at 5 MiB (${fact})`,
    ...{ fact, probe: 'tracking' },
    bend: ({ lab }) => ({
      host: {
        changedRanges: (...place) =>
          without(
            lab.changedRanges(...place),
            ({ start, end }) => start <= 5 * MIB + 512 && 5 * MIB + 512 < end,
          ),
      },
    }),
  })),
  {
    what: 'two ways to ask that differ',
    ...{ fact: 'providers-agree', probe: 'tracking' },
    bend: ({ lab }) => ({
      port: {
        otherRanges: (...place) => without(lab.changedRanges(...place), ({ start }) => start === 0),
      },
    }),
  },
  {
    what: 'an older id that is invalid at once',
    ...{ fact: 'old-id-valid', probe: 'tracking' },
    bend: ({ lab }) => {
      let first: string | undefined;
      let asked = 0;
      return {
        host: {
          changedRanges: (vmId, checkpointId, diskId, trackingId) => {
            first ??= trackingId;
            if (trackingId === first && ++asked > 1) return invalid();
            return lab.changedRanges(vmId, checkpointId, diskId, trackingId);
          },
        },
      };
    },
  },
  {
    what: 'a reference point that cannot be destroyed',
    ...{ fact: 'old-point-destroyed', probe: 'tracking' },
    bend: ({ lab }) => {
      let calls = 0;
      return {
        host: {
          removeReferencePoint: async (...place) => {
            if (++calls > 1) await lab.removeReferencePoint(...place);
          },
        },
      };
    },
  },
  {
    what: 'a destroyed id that answers with nothing',
    ...{ fact: 'destroyed-id-safe', probe: 'tracking' },
    bend: ({ lab }) => {
      let isDestroyed = false;
      return {
        host: {
          removeReferencePoint: async (...place) => {
            isDestroyed = true;
            await lab.removeReferencePoint(...place);
          },
          changedRanges: (...place) => (isDestroyed ? nothing() : lab.changedRanges(...place)),
        },
      };
    },
  },
  {
    what: 'an unknown id that answers',
    ...{ fact: 'unknown-id-refused', probe: 'tracking' },
    bend: ({ lab }) => ({
      host: {
        changedRanges: (vmId, checkpointId, diskId, trackingId) =>
          trackingId.startsWith('rctX:')
            ? nothing()
            : lab.changedRanges(vmId, checkpointId, diskId, trackingId),
      },
    }),
  },
  {
    what: 'a write of a running machine that is not reported',
    ...{ fact: 'running-writes-reported', probe: 'running' },
    bend: ({ lab }) => ({
      host: {
        changedRanges: (...place) =>
          without(lab.changedRanges(...place), ({ end }) => end === 64 * MIB),
      },
    }),
  },
  {
    what: 'an id that is invalid as soon as a machine has run',
    ...{ fact: 'running-writes-reported', probe: 'running' },
    bend: () => ({ host: { changedRanges: invalid } }),
  },
  {
    what: 'a merge that does not end while the machine runs',
    ...{ fact: 'merge-ends', probe: 'running' },
    bend: ({ lab }) => ({
      host: {
        describeVm: async (id) => {
          const vm = await lab.describeVm(id);
          const isOn = (await lab.summaryOf(id))?.powerState === 'running';
          const end = isOn ? '.avhdx' : '';
          return { ...vm, disks: vm.disks.map((disk) => ({ ...disk, path: disk.path + end })) };
        },
      },
    }),
  },
  {
    what: 'a disk that grew and is told by its old size',
    ...{ fact: 'resize-seen', probe: 'resizing' },
    bend: () => ({ port: { growDisk: () => Promise.resolve() } }),
  },
  {
    what: 'a revert that nobody tells of',
    ...{ fact: 'revert-seen', probe: 'reverting' },
    bend: () => ({ host: { changedRanges: nothing } }),
  },
  {
    what: "a checkpoint of the user's that goes",
    ...{ fact: 'user-checkpoints', probe: 'user-checkpoints' },
    bend: () => ({ port: { listUserCheckpoints: () => Promise.resolve([]) } }),
  },
  {
    what: 'a copy of a VM that has its reference points',
    ...{ fact: 'copied-vm-known', probe: 'copied-vm' },
    bend: ({ lab }) => ({
      host: {
        listReferencePoints: async (id) => [
          ...(await lab.listReferencePoints(id)),
          { id: 'x', vmId: id, createdAtMs: 0, tag: undefined, disks: [] },
        ],
      },
    }),
  },
  {
    what: 'a replaced disk whose former id answers',
    ...{ fact: 'replaced-disk-seen', probe: 'copied-vm' },
    bend: () => ({ host: { changedRanges: nothing } }),
  },
  {
    what: 'a protective disk that tells of no writes',
    ...{ fact: 'protective-disk', probe: 'protective-disk' },
    bend: () => ({ host: { rangesAbove: nothing } }),
  },
  {
    what: 'tracking that misses what a protective disk took',
    ...{ fact: 'protective-disk-tracking', probe: 'protective-disk' },
    bend: () => ({ host: { changedRanges: nothing } }),
  },
  {
    what: 'a fence that keeps nobody out',
    ...{ fact: 'fence-holds', probe: 'fence' },
    bend: () => ({ host: { fenceVm: () => Promise.resolve() } }),
  },
  {
    what: 'a disk of ours that does not open',
    ...{ fact: 'our-disk-opens', probe: 'chains' },
    bend: () => ({
      port: {
        ...asIndependent,
        inspect: () => Promise.reject(new DrError('E_HYPERVISOR', 'the file is corrupt')),
      },
    }),
  },
  {
    what: 'a chain of ours that reads as its base',
    ...{ fact: 'our-chain-opens', probe: 'chains' },
    bend: ({ fs }) => ({
      port: {
        ...asIndependent,
        openNative: (file) => openVhdx(file.replace('child', 'base'), { fs, random: systemRandom }),
      },
    }),
  },
  {
    what: 'a guest without a heartbeat',
    ...{ fact: 'heartbeat-seen', probe: 'guest', withGuest: true },
    bend: () => ({ host: { heartbeat: () => Promise.resolve('absent') } }),
  },
  {
    what: 'a guest that does not quiesce',
    ...{ fact: 'application-consistent', probe: 'guest', withGuest: true },
    bend: ({ lab }) => ({
      host: {
        createCheckpoint: (id, request) =>
          request.consistency === 'crash'
            ? lab.createCheckpoint(id, request)
            : Promise.reject(new DrError('E_CONSISTENCY', 'a writer failed')),
      },
    }),
  },
  {
    what: 'a write of the guest that is not reported',
    ...{ fact: 'guest-writes-reported', probe: 'guest', withGuest: true },
    bend: () => ({ host: { changedRanges: nothing } }),
  },
  {
    what: 'an address that the guest does not take',
    ...{ fact: 're-ip-applied', probe: 'guest', withGuest: true },
    bend: () => ({ host: { setGuestAddress: () => Promise.resolve() } }),
  },
  {
    what: 'an address that goes to the other adapter as well',
    ...{ fact: 're-ip-applied', probe: 'guest', withGuest: true },
    bend: ({ lab }) => ({
      host: {
        setGuestAddress: async (id, _adapter, settings) => {
          for (const { id: adapterId } of (await lab.describeVm(id)).adapters) {
            await lab.setGuestAddress(id, adapterId, settings);
          }
        },
      },
    }),
  },
  {
    what: 'a guest that does not shut down',
    ...{ fact: 'shut-down-asked', probe: 'guest', withGuest: true },
    bend: () => ({
      host: {
        shutDownVm: () => Promise.reject(new DrError('E_SHUTDOWN_TIMEOUT', 'it asks a question')),
      },
    }),
  },
];

/** Of a host that replicates no VM by itself, and could. */
const NO_REPLICAS: ReplicaHost = {
  view: (vmId) =>
    Promise.resolve({
      vmId,
      vmName: 'x',
      powerState: 'off' as const,
      relation: undefined,
      extension: undefined,
    }),
  points: () => Promise.resolve([]),
  plan: async (vmId, { verb }) => ({
    ...{ view: await NO_REPLICAS.view(vmId), verb, steps: [], isDestructive: false, hash: '' },
    ...{ refusal: new DrError('E_STATE', 'it is not replicated'), losesAfterMs: undefined },
  }),
  carryOut: () => Promise.reject(new Error('nothing is carried out')),
};

describe('the acceptance of a host', () => {
  it('confirms what a host with a guest does right, and says who answers the rest', async () => {
    const site = await AcceptanceHost.make();
    await site.withGuest();
    const { lab } = site;
    const acceptance = await site.run([], {
      host: { replica: NO_REPLICAS },
      port: { ...asIndependent, otherRanges: (...place) => lab.changedRanges(...place) },
    });
    const open = FACT_IDS.filter((id) => acceptance.answers.get(id)?.verdict !== 'confirmed');
    const byHand = FACT_IDS.filter((id) => factOf(id).source === 'hand');
    // the lab grows no disk that stood ready
    expect(open).to.have.members([...byHand, 'resize-seen']);
    expect(isAccepted(acceptance), acceptanceText(acceptance)).to.equal(true);
    expect(await site.left()).to.deep.equal([]);
  });

  it('asks each fact that a probe can answer, by one probe', () => {
    const asked = PROBES.flatMap(({ facts }) => facts);
    expect(new Set(asked).size).to.equal(asked.length);
    const answerable = FACT_IDS.filter((id) => factOf(id).source !== 'hand');
    expect(asked).to.have.members(answerable);
    expect(new Set(WRONG.map(({ fact }) => fact))).to.deep.equal(
      new Set(answerable.filter((id) => id !== 'checkpoint-of-off-vm')),
    );
    for (const id of FACT_IDS) expect(factOf(id).how.length, id).to.be.above(20);
  });

  for (const { what, fact, probe, bend, withGuest } of WRONG) {
    it(`notices ${what}`, async () => {
      const site = await AcceptanceHost.make();
      if (withGuest === true) await site.withGuest();
      const acceptance = await site.run([probe], bend(site));
      expect(verdictOf(acceptance, fact), acceptanceText(acceptance)).to.equal(`${fact}: refuted`);
      expect(isAccepted(acceptance)).to.equal(false);
      expect(await site.left()).to.deep.equal([]);
    });
  }

  it('calls a fact open when its probe did not come to it, and the host not accepted', async () => {
    const site = await AcceptanceHost.make();
    const acceptance = await site.run(['checkpoints', 'fence'], {
      host: { createCheckpoint: () => Promise.reject(new DrError('E_CHECKPOINT', 'no space')) },
    });
    expect(verdictOf(acceptance, 'frozen-read')).to.equal('frozen-read: not answered');
    expect(acceptance.answers.get('frozen-read')?.evidence).to.contain('E_CHECKPOINT: no space');
    expect(verdictOf(acceptance, 'fence-holds')).to.equal('fence-holds: confirmed');
    expect(isAccepted(acceptance)).to.equal(false);
    expect(await site.left()).to.deep.equal([]);
  });

  it('calls a host that contradicts itself a failed probe, and no bug of ours', async () => {
    const site = await AcceptanceHost.make();
    const { lab } = site;
    const acceptance = await site.run(['tracking'], {
      host: {
        convertToReferencePoint: async (...place) => ({
          ...(await lab.convertToReferencePoint(...place)),
          disks: [],
        }),
      },
    });
    expect(acceptance.probes[0]).to.include({ name: 'tracking', outcome: 'failed' });
    expect(acceptance.probes[0]?.detail).to.contain('E_HYPERVISOR: the host names 0 disks');
    expect(isAccepted(acceptance)).to.equal(false);
    expect(await site.left()).to.deep.equal([]);
  });

  it('takes an id that is invalid after an edit by hand as safe, and the writes as open', async () => {
    const site = await AcceptanceHost.make();
    const acceptance = await site.run(['tracking'], {
      host: { changedRanges: invalid },
    });
    expect(verdictOf(acceptance, 'offline-edit-safe')).to.equal('offline-edit-safe: confirmed');
    expect(verdictOf(acceptance, 'known-writes-reported')).to.contain('not answered');
    expect(isAccepted(acceptance)).to.equal(true);
  });

  it('leaves it open whether a point stays as it was when the machine wrote nothing', async () => {
    const site = await AcceptanceHost.make();
    const acceptance = await site.run(['test-failover', 'replica'], {
      port: { playBoot: () => Promise.resolve() },
    });
    expect(verdictOf(acceptance, 'point-untouched')).to.contain('not answered');
    expect(verdictOf(acceptance, 'test-vm-alone')).to.contain('confirmed');
    expect(acceptance.answers.get('replica-answers')?.evidence).to.contain('no replication');
    expect(isAccepted(acceptance)).to.equal(true);
  });

  it('leaves the writes of a running machine open when it made none', async () => {
    const site = await AcceptanceHost.make();
    const acceptance = await site.run(['running'], {
      port: { playBoot: () => Promise.resolve() },
    });
    expect(verdictOf(acceptance, 'running-writes-reported')).to.contain('not answered');
    expect(isAccepted(acceptance)).to.equal(true);
  });

  it('removes what a run that was stopped has left, and touches no other VM', async () => {
    const site = await AcceptanceHost.make();
    const own = await site.lab.createVm({ name: 'hvdr-acceptance-like', disks: [] });
    const { lab } = site;
    const stopped = site.run(['tracking'], {
      host: {
        waitForMerge: () => {
          throw new Error('the process ends here');
        },
        removeVm: () => Promise.reject(new Error('the process has ended')),
      },
    });
    await stopped.then(
      () => expect.fail('the run was not stopped'),
      () => undefined,
    );
    expect((await lab.listVms()).map(({ name }) => name)).to.include('hvdr-acceptance-tracking-1');
    const acceptance = await site.run(['fence']);
    expect(acceptance.leftovers).to.deep.equal(['hvdr-acceptance-tracking-1']);
    expect((await lab.listVms()).map(({ id }) => id)).to.deep.equal([own]);
  });

  it("removes checkpoints of a user's that a stopped run has left before it removes the VM", async () => {
    const site = await AcceptanceHost.make();
    const { lab } = site;
    const stopped = site.run(['reverting'], {
      host: { removeVm: () => Promise.reject(new Error('the process has ended')) },
      port: {
        applyUserCheckpoint: () => {
          throw new Error('the process ends here');
        },
        removeUserCheckpoint: () => Promise.reject(new Error('the process has ended')),
      },
    });
    await stopped.then(
      () => expect.fail('the run was not stopped'),
      () => undefined,
    );
    const left = (await lab.listVms()).find(({ name }) => name.startsWith('hvdr-acceptance-'));
    expect(await site.port.listUserCheckpoints(left?.id ?? OTHER_ID)).to.have.length(1);
    const seen: number[] = [];
    const acceptance = await site.run(['fence'], {
      host: {
        removeVm: async (id) => {
          seen.push((await site.port.listUserCheckpoints(id)).length);
          await lab.removeVm(id);
        },
      },
    });
    expect(acceptance.leftovers).to.deep.equal([left?.name]);
    expect(seen[0]).to.equal(0);
    expect(await site.left()).to.deep.equal([]);
  });

  it('says what it could not remove', async () => {
    const site = await AcceptanceHost.make();
    const refuse = (): Promise<void> => Promise.reject(new DrError('E_HYPERVISOR', 'it is in use'));
    let isOver = false;
    const acceptance = await site.run(['fence'], {
      host: { unfenceVm: async (id) => (isOver ? refuse() : site.lab.unfenceVm(id)) },
      port: {},
    });
    expect(acceptance.leftBehind).to.deep.equal([]);
    isOver = true;
    const next = await site.run(['registration'], { host: { removeVm: refuse } });
    expect(next.leftBehind.join()).to.contain('it is in use');
    expect(isAccepted(next)).to.equal(false);
    expect(acceptanceText(next)).to.contain('tried again by the next run');
  });

  it('stops when it is told to, with everything removed', async () => {
    const site = await AcceptanceHost.make();
    const run = site.run([], {
      host: {
        createCheckpoint: async (...wish) => {
          site.abort.abort(new Error('stopped'));
          return site.lab.createCheckpoint(...wish);
        },
      },
    });
    await run.then(
      () => expect.fail('it was not stopped'),
      (error: unknown) => {
        expect(String(error)).to.contain('stopped');
      },
    );
    expect(await site.left()).to.deep.equal([]);
  });

  it('reports every fact to programs, and the refuted ones first to people', async () => {
    const site = await AcceptanceHost.make();
    const acceptance = await site.run(['fence', 'registration'], {
      host: { fenceVm: () => Promise.resolve() },
    });
    const document = acceptanceDocument(acceptance, ABOUT);
    expect(document['counts']).to.deep.equal({
      confirmed: 2,
      refuted: 1,
      'not answered': FACT_IDS.length - 3,
    });
    expect(JSON.stringify(document['facts'])).to.contain('"verdict":"refuted"');
    const [, second = ''] = acceptanceText(acceptance).split('\n');
    expect(second).to.match(/^NO {4}fence-holds \(§ 3\.5\): /);
  });
});
