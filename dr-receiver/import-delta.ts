// Takes a delta that came by the other road, one disk at a time. Its header has to fit the head of the
// VM in every field; its cells become an unfinished cycle of the point that the manifest names. A disk
// counts when the root of what came is the root of the manifest; the point is listed when all disks of
// the head are there. So what is listed is, byte for byte, what the direct road would have brought.

import { createHash } from 'node:crypto';
import { type Guid, guidFromWire, guidToWire } from '../shared/bytes/index.js';
import type { Caller, ImportDeltaRequest, ImportDeltaResponse } from '../shared/channel/index.js';
import {
  DeltaError,
  ManifestFile,
  type ManifestHeader,
  MANIFEST_HEADER_BYTES,
  HASH_BYTES,
  parseBatch,
  parseManifestHeader,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import { actorOf } from './actor.js';
import { findVm } from './find-vm.js';
import { stagedDisk } from './ingest/incoming-cycle.js';
import { nextPointRequest } from './ingest/next-point-request.js';
import type { CycleRequest } from './ingest/open-request.js';
import { RootCheck } from './ingest/root-check.js';
import { stagedRecords } from './ingest/staged-cells.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import type { CommitAnswer, Point } from './store/protection.js';

const NOTHING_CHANGED = 'nothing of the delta was taken';

interface Wanted {
  readonly desk: VmDesk;
  readonly diskIndex: number;
  readonly header: ManifestHeader;
  readonly root: Buffer;
}

/** @throws DrError E_DELTA_PARENT, E_DISK_MISMATCH, E_STALE_EPOCH, E_EXISTS, E_DELTA_…, E_STATE, … */
export async function* importDelta(
  receiver: Receiver,
  requests: AsyncIterable<ImportDeltaRequest>,
  caller: Caller,
): AsyncGenerator<ImportDeltaResponse> {
  const messages = requests[Symbol.asyncIterator]();
  const wanted = await begin(receiver, await messages.next());
  const { desk, header } = wanted;
  const known = await desk.vm.change(() => Promise.resolve(knownPoint(wanted)));
  if (known !== undefined) {
    yield accepted(0, true);
    await untilEnd(messages);
    await desk.markInherited(undefined);
    yield done(known, { isCommitted: true, wasKnown: true });
    return;
  }
  const request = requestOf(wanted);
  const position = await desk.vm.change(() => openDisk(receiver, wanted, request, caller));
  yield accepted(position.nextCell, position.isComplete);
  if (position.isComplete) {
    await untilEnd(messages);
  } else {
    const root = await rootSoFar(receiver, wanted, request, position.nextCell);
    await desk.push(request.cycleId, checked(messages, wanted, root), () => undefined);
  }
  const before = desk.vm.protection.head;
  const { missing, answer } = await desk.vm.change(() =>
    commitIfWhole(receiver, wanted, request, caller),
  );
  if (answer !== undefined) {
    await desk.markInherited(before);
    const { vmName } = desk.vm.protection;
    receiver.log
      .child({ component: 'import', vmId: desk.vm.vmId, cycleId: request.cycleId })
      .info('point.committed', { vmName, pointId: answer.pointId, warnings: answer.warnings });
  }
  yield done(header.point, { isCommitted: answer !== undefined, missing, answer });
}

async function begin(
  receiver: Receiver,
  first: IteratorResult<ImportDeltaRequest>,
): Promise<Wanted> {
  const part = first.done === true ? undefined : first.value.part;
  if (part?.$case !== 'begin') {
    throw new DrError('E_PROTOCOL', 'an import does not say what it brings');
  }
  const { vm: name, diskIndex, manifestHeader, root } = part.value;
  if (manifestHeader.length !== MANIFEST_HEADER_BYTES || root.length !== HASH_BYTES) {
    throw new DrError('E_PROTOCOL', 'an import has no manifest header or no root');
  }
  const desk = await findVm(receiver, name);
  desk.vm.requireSound();
  const header = parseManifestHeader(manifestHeader);
  checkKindAndVm(desk, header);
  return { desk, diskIndex, header, root };
}

function misfit(field: string, message: string, more: { hint?: string } = {}): DrError {
  return new DrError('E_DISK_MISMATCH', message, {
    context: { field },
    done: NOTHING_CHANGED,
    ...more,
  });
}

function checkKindAndVm({ vm }: VmDesk, { kind, vmId, point }: ManifestHeader): void {
  if (kind !== 'delta') throw misfit('kind', `the manifest of point ${point} is that of a base`);
  if (vmId !== vm.vmId) {
    throw misfit('vm', `the delta is of VM ${vmId}, ${vm.protection.vmName} is ${vm.vmId}`);
  }
}

/** The point, when it has been listed with this very disk. @throws DrError E_EXISTS */
function knownPoint({ desk, diskIndex, header, root }: Wanted): Guid | undefined {
  const point = desk.vm.protection.point(header.point);
  if (point === undefined) return undefined;
  const disk = point.disks[diskIndex];
  if (disk?.diskId !== header.diskId) {
    throw misfit(
      'disk',
      `the delta is of disk ${header.diskId}, not of disk ${diskIndex} of the VM`,
    );
  }
  const isSame = disk.root === root.toString('hex');
  if (isSame) return point.pointId;
  throw new DrError(
    'E_EXISTS',
    `point ${point.pointId} is there, and its disk ${diskIndex} differs`,
    {
      context: { pointId: point.pointId, root: disk.root },
      done: NOTHING_CHANGED,
    },
  );
}

/** The header says what the head of the VM says, in every field. */
function checkFits({ desk: { vm }, diskIndex, header }: Wanted, head: Point | undefined): Point {
  const { vmName, epoch } = vm.protection;
  if (head === undefined) {
    throw new DrError('E_NO_POINT', `${vmName} has no point that a delta could follow`, {
      done: NOTHING_CHANGED,
      hint: 'Push the VM once, or seed it; then import.',
    });
  }
  if (header.epoch !== epoch) {
    throw new DrError('E_STALE_EPOCH', `the delta has epoch ${header.epoch}, ${vmName} ${epoch}`, {
      context: { field: 'epoch' },
      done: NOTHING_CHANGED,
    });
  }
  const disk = head.disks[diskIndex];
  if (disk === undefined) {
    throw misfit('disk', `${vmName} has ${head.disks.length} disk(s) in its newest point`, {
      hint: 'Disks count from 0.',
    });
  }
  const fields = [
    ['disk', header.diskId, disk.diskId],
    ['generation', header.diskGeneration, disk.generation],
    ['size', header.diskSizeBytes, disk.sizeBytes],
    ['logicalSector', header.logicalSectorBytes, disk.logicalSectorBytes],
    ['physicalSector', header.physicalSectorBytes, disk.physicalSectorBytes],
  ] as const;
  for (const [field, found, expected] of fields) {
    if (found === expected) continue;
    throw misfit(field, `disk ${diskIndex}: ${field} is ${found} in the delta, ${expected} here`);
  }
  if (header.parentPoint === head.pointId) return head;
  const isBehind = vm.protection.point(header.parentPoint) !== undefined;
  throw new DeltaError(
    'E_DELTA_PARENT',
    isBehind
      ? `the delta follows the older point ${header.parentPoint}, and ${vmName} is at ${head.pointId}`
      : `the delta follows point ${header.parentPoint}, which ${vmName} does not have; its newest is ${head.pointId}`,
    {
      context: { field: 'parent', parentPoint: header.parentPoint, head: head.pointId },
      done: NOTHING_CHANGED,
      hint: isBehind
        ? 'Nothing to do: a newer point is here already.'
        : `Import the deltas that lead from ${head.pointId} to ${header.parentPoint} first.`,
    },
  );
}

/** The id under which imports of a point meet, whichever disk comes first. */
function importCycleId(pointId: Guid): Guid {
  const digest = createHash('sha256').update('hvdr import 1').update(guidToWire(pointId)).digest();
  const id = guidFromWire(digest.subarray(0, 16));
  if (id === undefined) throw new Error('16 bytes are a GUID');
  return id;
}

function requestOf(wanted: Wanted): CycleRequest {
  const { desk, header } = wanted;
  const head = checkFits(wanted, desk.vm.protection.head);
  // a delta carries no definition: it is the one of the point before
  return nextPointRequest(desk.vm, head, {
    cycleId: importCycleId(header.point),
    pointId: header.point,
    ...{ kind: 'delta', checkpointId: 'import', consistentAtMs: 0 },
  });
}

async function openDisk(
  receiver: Receiver,
  { desk, diskIndex, root }: Wanted,
  request: CycleRequest,
  { principal }: Caller,
): Promise<{ nextCell: number; isComplete: boolean }> {
  const outcome = await desk.open(request, principal);
  const position = outcome.kind === 'accepted' ? outcome.positions[diskIndex] : undefined;
  if (position === undefined) {
    throw new DrError('E_STATE', 'the newest point of the VM changed meanwhile', {
      done: NOTHING_CHANGED,
    });
  }
  if (!position.isComplete) return position;
  const staged = await rootOf(receiver, desk, request, diskIndex);
  if (staged.equals(root)) return position;
  throw new DrError('E_EXISTS', `another delta was imported for disk ${diskIndex} of this point`, {
    context: { pointId: request.pointId, root: staged.toString('hex') },
    done: NOTHING_CHANGED,
  });
}

/** Root of a disk that is complete: it was compared before the disk became so. */
async function rootOf(
  { seams }: Receiver,
  desk: VmDesk,
  request: CycleRequest,
  diskIndex: number,
): Promise<Buffer> {
  const disk = request.disks[diskIndex];
  if (disk === undefined) throw new Error('the disk is one of the request');
  const path = desk.vm.layout.files(disk, request.cycleId, disk.transfer).manifest;
  const file = await seams.fs.open(path, { mode: 'read', lock: 'none' });
  try {
    return (await ManifestFile.open(file)).trailer.root;
  } finally {
    await file.close();
  }
}

/** The root over what an earlier import of the same disk brought, to go on with. */
async function rootSoFar(
  { seams }: Receiver,
  { desk, header }: Wanted,
  request: CycleRequest,
  nextCell: number,
): Promise<RootCheck> {
  const root = new RootCheck(header);
  if (nextCell === 0) return root;
  const cycles = await desk.vm.change(() => desk.unfinished());
  const cycle = cycles.find((each) => each.request.cycleId === request.cycleId);
  const staged = cycle && stagedDisk(desk.vm.layout, cycle, header);
  if (staged?.progress.nextCell !== nextCell) {
    throw new DrError('E_STATE', 'the import was disturbed', { hint: 'Run it again.' });
  }
  for await (const record of stagedRecords(seams.fs, staged)) root.add(record);
  return root;
}

/** The messages as they are; the end of the disk only when its root is the right one. */
async function* checked(
  messages: AsyncIterator<ImportDeltaRequest>,
  { diskIndex, header, root: expected }: Wanted,
  root: RootCheck,
): AsyncGenerator<Buffer, void, undefined> {
  for (;;) {
    const next = await messages.next();
    if (next.done === true) return;
    const { part } = next.value;
    if (part?.$case !== 'batch') throw new DrError('E_PROTOCOL', 'an import brings no cells');
    const message = parseBatch(part.value);
    if (message.kind === 'begin' || message.diskIndex !== diskIndex) {
      throw new DrError('E_PROTOCOL', 'an import brings what it did not announce');
    }
    if (message.kind === 'cells') {
      for (const entry of message.entries) root.add(entry);
    } else if (!root.finish().equals(expected)) {
      throw new DeltaError('E_DELTA_MANIFEST', `the root of disk ${header.diskId} is another one`, {
        context: { diskId: header.diskId, point: header.point },
        done: 'the disk does not count',
      });
    }
    yield part.value;
    if (message.kind === 'end') {
      await untilEnd(messages);
      return;
    }
  }
}

/** @throws DrError E_PROTOCOL when something comes that nobody asked for */
async function untilEnd(messages: AsyncIterator<ImportDeltaRequest>): Promise<void> {
  const next = await messages.next();
  if (next.done !== true) throw new DrError('E_PROTOCOL', 'an import goes on behind its end');
}

/** In a change of the VM. */
async function commitIfWhole(
  receiver: Receiver,
  wanted: Wanted,
  request: CycleRequest,
  caller: Caller,
): Promise<{ missing: number[]; answer: CommitAnswer | undefined }> {
  const { desk } = wanted;
  const outcome = await desk.open(request, caller.principal);
  if (outcome.kind === 'committed') return { missing: [], answer: outcome.answer };
  if (outcome.kind === 'parentRefused') {
    throw new DrError('E_STATE', 'the newest point of the VM changed meanwhile', {
      done: 'the import was given up',
    });
  }
  const missing = outcome.positions.flatMap(({ isComplete }, index) => (isComplete ? [] : [index]));
  if (missing.length > 0) {
    // durable, and nobody's lock: the source may go on, and then the import is of no use any more
    await desk.abandon(request.cycleId);
    return { missing, answer: undefined };
  }
  const roots: Buffer[] = [];
  for (const index of request.disks.keys())
    roots.push(await rootOf(receiver, desk, request, index));
  return { missing, answer: await desk.commit(request.cycleId, roots, actorOf(caller)) };
}

function accepted(nextCell: number, isComplete: boolean): ImportDeltaResponse {
  return { step: { $case: 'accepted', value: { nextCell: BigInt(nextCell), isComplete } } };
}

function done(
  pointId: Guid,
  {
    isCommitted,
    wasKnown = false,
    missing = [],
    answer,
  }: {
    isCommitted: boolean;
    wasKnown?: boolean;
    missing?: readonly number[];
    answer?: CommitAnswer | undefined;
  },
): ImportDeltaResponse {
  const value = {
    pointId: guidToWire(pointId),
    isCommitted,
    wasKnown,
    missingDisks: [...missing],
    warnings: [...(answer?.warnings ?? [])],
  };
  return { step: { $case: 'done', value } };
}
