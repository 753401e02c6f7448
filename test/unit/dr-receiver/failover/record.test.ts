// What the journal says of failover: read back as it was written, refused with any field of another kind,
// bounded, kept when the journal is written anew; the epoch only rises; points in use stay.

import { expect } from 'chai';
import type { FailoverRecord, Instance } from '../../../../dr-receiver/failover/model.js';
import { ORDINARY } from '../../../../dr-receiver/failover/model.js';
import { useOf, verdictsOf } from '../../../../dr-receiver/store/forget.js';
import { VmLayout } from '../../../../dr-receiver/store/layout.js';
import { Protection } from '../../../../dr-receiver/store/protection.js';
import { type JournalRecord, parseRecord } from '../../../../dr-receiver/store/records.js';
import { DEFAULT_RETENTION } from '../../../../dr-receiver/store/retention.js';
import { encodeState, parseStateRecord } from '../../../../dr-receiver/store/state-record.js';
import { VmStore } from '../../../../dr-receiver/store/vm-store.js';
import {
  aFailover,
  anInstance,
  anOperation,
  aTest,
  operationId,
} from '../../../support/failover-records.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import {
  commitRecord,
  numbered,
  pointId,
  protectRecord,
  STORE_ID,
  VM_ID,
} from '../../../support/protection-records.js';
import { SeededRandom } from '../../../support/seeded-random.js';

const BY = { by: 'ops', keyId: undefined };

function failoverRecord(failover: FailoverRecord, epoch: bigint | number = 1): JournalRecord {
  return { kind: 'failover', atMs: 9, epoch: epoch.toString(), failover, ...BY };
}

function testRecord(n: number, fields: Parameters<typeof aTest>[1] = {}): JournalRecord {
  const test = aTest(n, fields);
  return {
    ...{ kind: 'test', atMs: 9, operationId: test.operationId, test },
    proof: { operationId: test.operationId, pointId: pointId(2), testedAtMs: 8, isPassed: true },
    ...BY,
  };
}

function protectionOf(...records: readonly JournalRecord[]): Protection {
  const protection = new Protection(VM_ID);
  for (const record of [protectRecord(), ...records]) {
    expect(protection.apply(record), record.kind).to.equal(undefined);
  }
  return protection;
}

/** As it comes out of a file. */
function reread(record: JournalRecord): JournalRecord {
  const parsed = parseRecord(JSON.parse(JSON.stringify(record)));
  if ('wrong' in parsed) throw new Error(parsed.wrong);
  return parsed;
}

const POINTS = [1, 2, 3, 4, 5, 6].map((n) => commitRecord(n, { maxRestorePoints: 2 }));

describe('failover: records of the journal', () => {
  const records: Readonly<Record<string, JournalRecord>> = {
    'a step': failoverRecord(aFailover(), 7n),
    'the ordinary': failoverRecord(ORDINARY),
    'a test': testRecord(3, { cause: 'the file is held' }),
    'the end of a test': {
      ...{ kind: 'test', atMs: 9, operationId: operationId(3), test: null, proof: null },
      ...BY,
    },
  };
  for (const [what, record] of Object.entries(records)) {
    it(`are read as they were written: ${what}`, () => {
      const [one, other] = [protectionOf(...POINTS), protectionOf(...POINTS)];
      expect(one.apply(record)).to.equal(undefined);
      expect(other.apply(reread(record))).to.equal(undefined);
      expect(other.state).to.deep.equal(one.state);
    });
  }

  for (const what of ['a step', 'a test']) {
    it(`are refused with any field of another kind: ${what}`, () => {
      const text = JSON.stringify(records[what]);
      let count = 0;
      const visit = (value: unknown, path: readonly string[]): void => {
        if (typeof value !== 'object' || value === null) return;
        for (const [name, inner] of Object.entries(value)) {
          const changed = JSON.parse(text) as Record<string, unknown>;
          let holder = changed;
          for (const step of path) holder = holder[step] as Record<string, unknown>;
          holder[name] = typeof inner === 'number' ? -1 : 0.5;
          expect(parseRecord(changed), [...path, name].join('.')).to.have.property('wrong');
          count++;
          visit(inner, [...path, name]);
        }
      };
      visit(JSON.parse(text), []);
      expect(count).to.be.greaterThan(30);
    });
  }

  it('of a release without failback are read: the VM serves, and every disk is compared', () => {
    const { isPlanned, servedUntilMs, ...older } = anInstance();
    const record = failoverRecord(aFailover({ instance: older as Instance }));
    const whole = failoverRecord(aFailover({ instance: anInstance({ isPlanned, servedUntilMs }) }));
    expect(reread(record)).to.deep.equal(reread(whole));
    expect({ isPlanned, servedUntilMs }).to.deep.equal({ isPlanned: false, servedUntilMs: 0 });
  });

  it('are bounded, and name files that lead out of no folder', () => {
    const instance = anInstance();
    const disk = instance.disks[0];
    if (disk === undefined) throw new Error('there is one');
    const wrong: readonly FailoverRecord[] = [
      aFailover({ operation: anOperation({ facts: { a: 'x'.repeat(16_385) } }) }),
      aFailover({
        operation: anOperation({
          facts: Object.fromEntries(Array.from({ length: 201 }, (_, n) => [`fact${n}`, ''])),
        }),
      }),
      aFailover({ operation: anOperation({ step: 'P1; drop' }) }),
      aFailover({ operation: anOperation({ by: 'x'.repeat(16_385) }) }),
      aFailover({ owed: Array.from({ length: 65 }, () => aFailover().owed[0] ?? never()) }),
      aFailover({ instance: { ...instance, network: { reip_rules: 'x'.repeat(16_385) } } }),
      aFailover({ instance: { ...instance, disks: Array.from({ length: 261 }, () => disk) } }),
      ...['../base.vhdx', '/etc/passwd', 'a/b.vhdx', '', '.', 'A.vhdx', 'x'.repeat(200)].map(
        (protective) => aFailover({ instance: { ...instance, disks: [{ ...disk, protective }] } }),
      ),
    ];
    for (const [index, failover] of wrong.entries()) {
      const parsed = parseRecord(JSON.parse(JSON.stringify(failoverRecord(failover))));
      expect(parsed, `record ${index}`).to.have.property('wrong');
    }
  });

  it('raise or keep the epoch, and never lower it', () => {
    const protection = protectionOf(...POINTS, failoverRecord(ORDINARY, 5));
    expect(protection.epoch).to.equal(5n);
    expect(protection.apply(failoverRecord(aFailover(), 4))).to.equal('epoch 4 is over');
    expect(protection.failover).to.equal(ORDINARY);
    expect(protection.apply(failoverRecord(aFailover(), 5))).to.equal(undefined);
    expect(protection.apply(failoverRecord(aFailover(), 2n ** 60n))).to.equal(undefined);
    expect(protection.epoch).to.equal(2n ** 60n);
  });

  it('of a test replace it as a whole, and end it', () => {
    const protection = protectionOf(...POINTS, testRecord(3), testRecord(4));
    expect([...protection.tests.keys()]).to.deep.equal([3, 4].map(operationId));
    protection.apply(testRecord(3, { phase: 'stopping', step: 'T7' }));
    expect(protection.tests.get(operationId(3))?.phase).to.equal('stopping');
    const end: JournalRecord = {
      ...{ kind: 'test', atMs: 9, operationId: operationId(3), test: null, proof: null },
      ...BY,
    };
    expect(protection.apply(end)).to.equal(undefined);
    expect([...protection.tests.keys()]).to.deep.equal([operationId(4)]);
    // the proof outlives its session
    expect(protection.proof?.isPassed).to.equal(true);
    const other: JournalRecord = {
      ...{ kind: 'test', atMs: 9, operationId: operationId(5), test: aTest(6), proof: null },
      ...BY,
    };
    expect(protection.apply(other)).to.equal('the test is another one');
  });
});

function never(): never {
  throw new Error('the record has one');
}

describe('failover: a journal that is written anew', () => {
  it('keeps operation, instance, tests and proof, however many tests there are', () => {
    const disks = Array.from({ length: 260 }, () => anInstance().disks[0] ?? never());
    const tests = Array.from({ length: 40 }, (_, n) =>
      testRecord(n + 10, { instance: anInstance({ disks }) }),
    );
    const protection = protectionOf(...POINTS, failoverRecord(aFailover(), 7), ...tests);
    const again = new Protection(VM_ID);
    for (const record of encodeState(protection.state, 5, { sequence: 1, chain: 'ab' })) {
      const text = JSON.stringify(record);
      expect(text.length).to.be.lessThan(1024 * 1024);
      const parsed = parseStateRecord(JSON.parse(text));
      if (parsed === undefined || 'wrong' in parsed) throw new Error(parsed?.wrong);
      expect(again.apply(parsed)).to.equal(undefined);
    }
    expect(again.state).to.deep.equal(protection.state);
    expect(again.tests.size).to.equal(40);
  });

  it('is found after a restart, and its snapshot tells phase and operation', async () => {
    const fs = new MemoryFileSystem();
    await fs.makeFolder('/vm');
    const seams = { fs, random: new SeededRandom(3), storeId: STORE_ID };
    const options = { ...seams, isReadOnly: false, rewriteAboveBytes: 4000 };
    const layout = new VmLayout('/vm');
    const first = await VmStore.create(layout, protectRecord(), options);
    const append = (record: JournalRecord): Promise<void> =>
      first.change(() => first.append(record));
    for (const record of [...POINTS, testRecord(3)]) await append(record);
    for (let step = 1; step <= 60; step++) {
      const operation = anOperation({ step: `P${step % 9}`, facts: { text: 'x'.repeat(step) } });
      await append(failoverRecord(aFailover({ phase: 'failing-over', operation }), step));
    }
    const { failover, tests, proof } = first.protection;
    await first.close();
    expect(fs.paths.some((path) => /journal\.\d+$/.test(path))).to.equal(true);
    const again = await VmStore.open(VM_ID, layout, options);
    expect(again.halt).to.equal(undefined);
    expect(again.protection.failover).to.deep.equal(failover);
    expect([...again.protection.tests]).to.deep.equal([...tests]);
    expect(again.protection.proof).to.deep.equal(proof);
    expect(again.protection.epoch).to.equal(60n);
    await again.close();
    const snapshot = JSON.parse(fs.content('/vm/protection.json')?.toString() ?? '') as unknown;
    expect(JSON.stringify(snapshot)).to.contain('"failover":"failing-over"');
    expect(JSON.stringify(snapshot)).to.contain('"operation":"planned, step P6"');
  });
});

describe('failover: points in use', () => {
  const TIME = {
    policy: { ...DEFAULT_RETENTION },
    nowMs: 40 * 24 * 3_600_000,
    isClockTrusted: true,
  };

  function keptBecause(...records: readonly JournalRecord[]): Record<number, string> {
    const protection = protectionOf(...POINTS, ...records);
    return Object.fromEntries(
      verdictsOf(protection, TIME)
        .map((verdict, index): [number, string] => [
          index + 1,
          verdict.isKept ? verdict.because : 'gone',
        ])
        .filter(([, because]) => because !== 'gone'),
    );
  }

  it('stay as long as a VM runs on them, beside the newest', () => {
    expect(keptBecause()).to.deep.equal({ 5: '', 6: '' });
    const instance = anInstance({ pointId: pointId(2) });
    const serving = { ...ORDINARY, phase: 'failed-over', instance } as const;
    expect(keptBecause(failoverRecord(serving))).to.deep.equal({
      ...{ 2: 'the VM runs on it', 5: '', 6: '' },
    });
    const coming = {
      ...ORDINARY,
      phase: 'failing-over',
      operation: anOperation({ pointId: pointId(3) }),
    } as const;
    expect(keptBecause(failoverRecord(coming))[3]).to.equal('a failover wants it');
    const test = testRecord(3, { instance: anInstance({ pointId: pointId(1) }) });
    expect(keptBecause(test)[1]).to.equal('a test runs on it');
  });

  it('go again when nothing runs on them', () => {
    const protection = protectionOf(...POINTS, failoverRecord(aFailover()), testRecord(3));
    expect(useOf(protection, pointId(2))).to.equal('the VM runs on it');
    protection.apply(failoverRecord(ORDINARY));
    expect(useOf(protection, pointId(2))).to.equal('a test runs on it');
    expect(useOf(protection, numbered(3, 5))).to.equal(undefined);
  });
});
