// Any jobs over the plugin protocol: whatever files, folders and objects a backup sends, and wherever their
// sources fail, a reader that knows the grammar of ptcomm.md § 6.1 by itself finds each item and the one end.

import { expect } from 'chai';
import fc from 'fast-check';
import type { BackupItems } from '../../plugin-bridge/ptcomm/backup-items.js';
import { type Chunking, jobLines } from '../support/ptcomm-peer.js';
import { idleJob, ptcommRig } from '../support/ptcomm-rig.js';
import { SeededRandom } from '../support/seeded-random.js';

type Item =
  | {
      readonly is: 'file';
      readonly name: string;
      readonly pieces: readonly number[];
      /** Index of the piece at which the source fails; none where it has no such piece. */
      readonly failsAt: number | undefined;
    }
  | { readonly is: 'folder'; readonly name: string }
  | { readonly is: 'object'; readonly name: string; readonly bytes: number }
  | { readonly is: 'plugin object'; readonly name: string; readonly hasAll: boolean }
  | { readonly is: 'message'; readonly text: string };

/** What a hostile name may hold, but for what no name can: NUL and ends of line. */
const aName = fc
  .string({ minLength: 1, maxLength: 30, unit: 'grapheme' })
  .map((text) => `${text.replace(/[\0\r\n/]/g, '_')}.x`);

/** Around the size at which pieces are gathered, and the largest packet. */
const aLength = fc.oneof(
  { weight: 4, arbitrary: fc.nat(2000) },
  { weight: 1, arbitrary: fc.constantFrom(0, 1, 262_143, 262_144, 262_145, 1_048_576) },
);

const anItem: fc.Arbitrary<Item> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      is: fc.constant('file' as const),
      name: aName,
      pieces: fc.array(aLength, { maxLength: 5 }),
      failsAt: fc.option(fc.nat(5), { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ is: fc.constant('folder' as const), name: aName }) },
  {
    weight: 2,
    arbitrary: fc.record({
      is: fc.constant('object' as const),
      name: aName,
      bytes: fc.oneof(fc.nat(3000), fc.constantFrom(0, 999_999, 1_000_000, 2_500_000)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      is: fc.constant('plugin object' as const),
      name: aName,
      hasAll: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      is: fc.constant('message' as const),
      text: fc.string({ maxLength: 3000, unit: 'binary' }),
    }),
  },
);

function bytesOf(seed: number, length: number): Buffer {
  return new SeededRandom(seed).bytes(length);
}

async function* contentOf(
  seed: number,
  { pieces, failsAt }: Extract<Item, { is: 'file' }>,
): AsyncGenerator<Buffer> {
  for (const [index, length] of pieces.entries()) {
    await Promise.resolve();
    if (index === failsAt) throw new Error('the disk is gone');
    yield bytesOf(seed + index, length);
  }
}

async function send(sink: BackupItems, item: Item, seed: number): Promise<void> {
  const modifiedAtMs = 1_795_444_060_000;
  switch (item.is) {
    case 'file': {
      const sizeBytes = item.pieces.reduce((sum, length) => sum + length, 0);
      const entry = { path: item.name, sizeBytes, modifiedAtMs };
      await sink.file(entry, contentOf(seed, item)).catch(() => undefined);
      break;
    }
    case 'folder':
      await sink.file({ path: `${item.name}/`, sizeBytes: 0, modifiedAtMs }, nothing());
      break;
    case 'object':
      await sink.restoreObject(item.name, bytesOf(seed, item.bytes));
      break;
    case 'plugin object': {
      const all = { uuid: 'u', sizeBytes: 2 ** 50, source: 's', status: 'OK' as const };
      const object = { path: item.name, name: item.name, category: 'c', type: 't' };
      await sink.pluginObject({ ...object, ...(item.hasAll ? all : {}) });
      break;
    }
    case 'message':
      sink.say('warning', item.text);
  }
}

async function* nothing(): AsyncGenerator<never> {
  // no content
}

/** What has to be taken of an item, by its text. */
function wanted(item: Item, seed: number): string[] {
  switch (item.is) {
    case 'file': {
      const { name, pieces, failsAt = Infinity } = item;
      const sent = pieces.slice(0, failsAt);
      const isFailed = failsAt < pieces.length;
      const whole = Buffer.concat(sent.map((length, index) => bytesOf(seed + index, length)));
      if (!isFailed) return [`file ${name} ${whole.length} ${whole.toString('base64')}`];
      return [`cut ${name}`];
    }
    case 'folder':
      return [`folder ${item.name}`];
    case 'object':
      return [`restore object ${item.name} ${bytesOf(seed, item.bytes).toString('base64')}`];
    case 'plugin object':
      return [`plugin object ${item.name} `];
    case 'message':
      return [];
  }
}

describe('property: the items of a backup', () => {
  it('are what a reader of the grammar takes, none too many and none too few', async function () {
    this.timeout(240_000);
    const SEED_STEP = 10;
    const random = new SeededRandom(3);
    const chunkings: readonly Chunking[] = ['whole', { random: () => random.int(1000) / 1000 }];
    await fc.assert(
      fc.asyncProperty(
        fc.array(anItem, { maxLength: 12 }),
        fc.constantFrom(...chunkings),
        async (items, chunking) => {
          const { peer, ended } = ptcommRig(
            () =>
              Promise.resolve(
                idleJob({
                  async backup(sink) {
                    for (const [index, item] of items.entries()) {
                      await send(sink, item, index * SEED_STEP);
                    }
                  },
                }),
              ),
            { chunking },
          );
          await peer.begin(jobLines('B', 'Level=F'), ['vm=*']);
          await peer.start('BackupStart');
          const taken = await peer.takeItems();
          await peer.end();
          expect(await ended).to.deep.equal({ how: 'ended' });
          const found = taken.map((one) => {
            const name = one.name.replace(/^\/@hyperv\//, '');
            if (one.is !== 'file') return `${one.is} ${name} ${one.content.toString('base64')}`;
            if (one.type === 'D') return `folder ${name.replace(/\/$/, '')}`;
            if (one.isCutShort) return `cut ${name}`;
            return `file ${name} ${one.content.length} ${one.content.toString('base64')}`;
          });
          const expected = items.flatMap((item, index) => wanted(item, index * SEED_STEP));
          expect(found.length).to.equal(expected.length);
          for (const [index, text] of expected.entries()) {
            // before its first byte a file that fails has no data, and an error stands in the job's log
            const failed = text.startsWith('cut ') ? `file ${text.slice(4)} 0 ` : text;
            expect([text, failed]).to.include(found[index]);
          }
          const failures = items.filter(
            (item) => item.is === 'file' && (item.failsAt ?? Infinity) < item.pieces.length,
          ).length;
          const cuts = peer.letters.split('E').length - 1;
          const errors = peer.messages.filter((line) => line.startsWith('Q ')).length;
          expect(cuts + errors).to.equal(failures);
        },
      ),
      // a reader that waits for what does not come is a failure too
      { numRuns: 150, timeout: 20_000, endOnFailure: true },
    );
  });
});
