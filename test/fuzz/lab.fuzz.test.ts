// Bytes in, typed error out: records of the lab that somebody or something changed. Whatever stands
// in vm.json, a call ends with a value or a DrError, and no disk file is changed by looking.

import { expect } from 'chai';
import fc from 'fast-check';
import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { LAB_FOLDER, LAB_REQUEST, labSeams, openLab } from '../support/lab-model.js';
import { MemoryFileSystem } from '../support/memory-file.js';

const RUNS = process.env['SLOW'] === '1' ? 5000 : 300;
const MIB = 1024 * 1024;

type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

/** All places of a JSON value, as paths. */
function placesOf(value: Json, path: readonly (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [[...path]];
  const entries: [string | number, Json][] = Array.isArray(value)
    ? value.map((item, index) => [index, item])
    : Object.entries(value);
  return [[...path], ...entries.flatMap(([name, item]) => placesOf(item, [...path, name]))];
}

/** The value with another one at a place; undefined takes it away. */
function changed(value: Json, path: readonly (string | number)[], by: Json | undefined): Json {
  const [name, ...rest] = path;
  if (name === undefined) return by ?? null;
  if (typeof value !== 'object' || value === null) return value;
  const copy: Record<string, Json> = Object.fromEntries(Object.entries(value));
  const inner = copy[String(name)] ?? null;
  if (rest.length > 0) copy[String(name)] = changed(inner, rest, by);
  else if (by === undefined) return removed(value, String(name));
  else copy[String(name)] = by;
  return Array.isArray(value) ? Object.values(copy) : copy;
}

function removed(value: Json[] | Record<string, Json>, name: string): Json {
  const rest = Object.entries(value).filter(([other]) => other !== name);
  return Array.isArray(value) ? rest.map(([, item]) => item) : Object.fromEntries(rest);
}

const strange: fc.Arbitrary<Json | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.constantFrom<Json>(null, true, -1, 1.5, 2 ** 53, 1e300, '', '..', '../../x', [], {}),
  fc.string({ maxLength: 40 }),
  fc.integer(),
  fc.uuid(),
);

describe('fuzz: the record of a lab VM', function () {
  this.timeout(600_000);

  it('with anything in it is refused with a typed error, or used; no disk file goes', async () => {
    const volume = new MemoryFileSystem();
    const lab = await Lab.create(LAB_FOLDER, labSeams(volume));
    const vmId: Guid = await lab.createVm({
      name: 'vm',
      disks: [{ source: { sizeBytes: MIB } }],
      adapters: [{ switchName: 'lan' }],
    });
    await lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 1));
    await lab.addUserCheckpoint(vmId);
    await lab.createCheckpoint(vmId, LAB_REQUEST);
    const file = `${LAB_FOLDER}/vms/${vmId}/vm.json`;
    // written by the lab a moment ago
    const good = JSON.parse((volume.content(file) ?? '').toString()) as Json;
    const places = placesOf(good);
    let refusedCount = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: places.length - 1 }), strange, async (place, by) => {
        const fs = volume.clone();
        fs.put(file, Buffer.from(JSON.stringify(changed(good, places[place] ?? [], by))));
        const before = fs.paths.filter((path) => path.endsWith('vhdx'));
        const opened = await openLab(fs);
        const calls: (() => Promise<unknown>)[] = [
          () => opened.listVms(),
          () => opened.describeVm(vmId),
          () => opened.listCheckpoints(vmId),
          () => opened.listReferencePoints(vmId),
          () => opened.guestRead(vmId, 0, 0, 512),
        ];
        for (const call of calls) {
          try {
            await call();
          } catch (error) {
            if (!(error instanceof DrError)) throw error;
            refusedCount++;
          }
        }
        expect(fs.paths.filter((path) => path.endsWith('vhdx'))).to.deep.equal(before);
      }),
      { numRuns: RUNS },
    );
    expect(refusedCount).to.be.greaterThan(RUNS);
  });
});
