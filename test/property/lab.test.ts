// Random lives of a VM against a naive model: guest writes and discards, recovery and user
// checkpoints in any order, reference points, restarts of the lab. After every step of interest the
// guest sees its bytes, what was frozen is as it was, and no change is missing from an answer.

import { expect } from 'chai';
import fc from 'fast-check';
import type { Guid } from '../../shared/bytes/index.js';
import type { ReferencePoint } from '../../shared/hypervisor/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import {
  changesOf,
  expectCovered,
  expectViews,
  frozenViews,
  LAB_FOLDER,
  LAB_REQUEST,
  labSeams,
  openLab,
  viewsOf,
} from '../support/lab-model.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { refusal } from '../support/refusal.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const RUNS = process.env['SLOW'] === '1' ? 1000 : 120;
const SIZES = [2 * MIB + 512 * 5, MIB];
const WAIT_MS = 30_000;
const USER_CHECKPOINTS_MAX = 4;

type Step =
  | {
      readonly kind: 'write' | 'zero';
      readonly disk: number;
      readonly at: number;
      readonly length: number;
      readonly fill: number;
    }
  | { readonly kind: 'checkpoint' | 'convert' | 'remove' | 'reopen' | 'forget' | 'add' }
  | { readonly kind: 'apply' | 'drop'; readonly which: number };

const share = fc.double({ min: 0, max: 0.999, noNaN: true });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constantFrom('write' as const, 'write' as const, 'zero' as const),
      disk: fc.integer({ min: 0, max: SIZES.length - 1 }),
      at: share,
      length: fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 300 * KIB })),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 9,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'checkpoint' as const,
        'checkpoint' as const,
        'convert' as const,
        'convert' as const,
        'remove' as const,
        'reopen' as const,
        'forget' as const,
        'add' as const,
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('apply' as const, 'drop' as const, 'drop' as const),
      which: share,
    }),
  },
);

interface Moment {
  readonly id: string;
  readonly views: readonly Buffer[];
}

interface KnownPoint {
  readonly point: ReferencePoint;
  readonly views: readonly Buffer[];
  isValid: boolean;
}

class Life {
  lab: Lab;
  readonly #fs: MemoryFileSystem;
  readonly #vmId: Guid;
  views = SIZES.map((size) => Buffer.alloc(size));
  checkpoint: (Moment & { isValid: boolean }) | undefined;
  points: KnownPoint[] = [];
  users: Moment[] = [];

  private constructor(fs: MemoryFileSystem, lab: Lab, vmId: Guid) {
    this.#fs = fs;
    this.lab = lab;
    this.#vmId = vmId;
  }

  static async begin(): Promise<Life> {
    const fs = new MemoryFileSystem();
    const lab = await Lab.create(LAB_FOLDER, labSeams(fs));
    const vmId = await lab.createVm({
      name: 'vm',
      disks: SIZES.map((sizeBytes) => ({ source: { sizeBytes }, blockSizeBytes: MIB })),
    });
    return new Life(fs, lab, vmId);
  }

  #copy(): Buffer[] {
    return this.views.map((view) => Buffer.from(view));
  }

  async take(one: Step): Promise<void> {
    const vmId = this.#vmId;
    switch (one.kind) {
      case 'write':
      case 'zero': {
        const view = this.views[one.disk] ?? Buffer.alloc(0);
        const start = Math.floor(one.at * view.length);
        const length = Math.min(one.length, view.length - start);
        const fill = one.kind === 'zero' ? 0 : one.fill;
        view.fill(fill, start, start + length);
        if (one.kind === 'zero') await this.lab.guestZero(vmId, one.disk, start, length);
        else await this.lab.guestWrite(vmId, one.disk, start, Buffer.alloc(length, fill));
        return;
      }
      case 'checkpoint': {
        if (this.checkpoint !== undefined) {
          const error = await refusal(() => this.lab.createCheckpoint(vmId, LAB_REQUEST));
          expect(error.code).to.equal('E_CHECKPOINT');
          return;
        }
        const { id } = await this.lab.createCheckpoint(vmId, LAB_REQUEST);
        this.checkpoint = { id, views: this.#copy(), isValid: true };
        await this.#askAll();
        return;
      }
      case 'convert': {
        if (this.checkpoint === undefined) return;
        await this.#askAll();
        const { id, views, isValid } = this.checkpoint;
        const point = await this.lab.convertToReferencePoint(vmId, id);
        this.points.push({ point, views, isValid });
        this.checkpoint = undefined;
        return;
      }
      case 'remove':
        if (this.checkpoint === undefined) return;
        await this.lab.removeCheckpoint(vmId, this.checkpoint.id);
        this.checkpoint = undefined;
        return;
      case 'reopen':
        await this.lab.close();
        this.lab = await openLab(this.#fs);
        return;
      case 'forget': {
        const oldest = this.points.shift();
        if (oldest !== undefined) await this.lab.removeReferencePoint(vmId, oldest.point.id);
        return;
      }
      case 'add': {
        if (this.users.length >= USER_CHECKPOINTS_MAX) return;
        const { id } = await this.lab.addUserCheckpoint(vmId);
        this.users.push({ id, views: this.#copy() });
        return;
      }
      case 'apply': {
        const user = this.users[Math.floor(one.which * this.users.length)];
        if (user === undefined) return;
        await this.lab.applyUserCheckpoint(vmId, user.id);
        this.views = user.views.map((view) => Buffer.from(view));
        for (const point of this.points) point.isValid = false;
        if (this.checkpoint !== undefined) this.checkpoint.isValid = false;
        return;
      }
      case 'drop': {
        const [user] = this.users.splice(Math.floor(one.which * this.users.length), 1);
        if (user !== undefined) await this.lab.removeUserCheckpoint(vmId, user.id);
      }
    }
  }

  /** Every reference point against the checkpoint that is there. */
  async #askAll(): Promise<void> {
    const { checkpoint } = this;
    if (checkpoint === undefined) return;
    for (const { point, views, isValid } of this.points) {
      for (const [index, { diskId, trackingId }] of point.disks.entries()) {
        const ask = () => changesOf(this.lab, this.#vmId, checkpoint.id, diskId, trackingId);
        if (!isValid || !checkpoint.isValid) {
          expect((await refusal(ask)).code).to.equal('E_TRACKING_INVALID');
          continue;
        }
        const [before, after] = [views[index], checkpoint.views[index]];
        if (before === undefined || after === undefined) throw new Error('no such disk');
        expectCovered(before, after, await ask(), `disk ${index}`);
      }
    }
  }

  async check(): Promise<void> {
    expectViews(await viewsOf(this.lab, this.#vmId), this.views, 'guest');
    const moments = this.checkpoint === undefined ? this.users : [...this.users, this.checkpoint];
    for (const { id, views } of moments) {
      expectViews(await frozenViews(this.lab, this.#vmId, id), views, `checkpoint ${id}`);
    }
  }

  async end(): Promise<void> {
    await this.lab.waitForMerge(this.#vmId, WAIT_MS);
    await this.check();
    await this.#askAll();
    const { disks, checkpoints, userCheckpoints } = await this.lab.findVm('vm');
    // one file for each moment that is held, one leaf, and at most one for each fork
    for (const { files } of disks) {
      expect(files.length).to.be.at.most(2 * (checkpoints.length + userCheckpoints.length) + 1);
    }
    const names = await this.#fs.list(`${LAB_FOLDER}/vms/${this.#vmId}/disks`);
    expect(names.length).to.equal(disks.reduce((sum, { files }) => sum + files.length, 0));
    await this.lab.close();
  }
}

describe('property: the lab against a naive model', function () {
  this.timeout(1_200_000);

  it('frozen views stay, the guest sees its bytes, and no change is missed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const life = await Life.begin();
        for (const [index, one] of steps.entries()) {
          await life.take(one);
          if (index % 7 === 6) await life.check();
        }
        await life.end();
      }),
      { numRuns: RUNS },
    );
  });
});
