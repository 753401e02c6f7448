// What has to be so before a command begins, beside what the state machine says: all that does not hold is
// told at once, so that nobody mends one thing to hear of the next. Nothing is changed here.

import { type Guid, randomGuid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { ParameterValues } from '../../shared/params/index.js';
import { findPoint } from '../find-point.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Point } from '../store/point.js';
import { Collector } from './collector.js';
import { definitionOf } from './definition.js';
import { describeAttached } from './describe-attached.js';
import { parseChecks } from './drill/check-list.js';
import { lookBeforeFailback } from './failback/look-before.js';
import { lookBeforeUndo } from './failback/way-back.js';
import { instanceSpace } from './instance-space.js';
import type { Command } from './model.js';
import type { AdapterPlan } from '../../shared/network/index.js';
import { isAlive, probeSource } from './operations/probe.js';
import type { PlanRefusal } from './plan.js';
import { replacementNote, requireNameFree } from './retired-vm.js';
import type { FailoverSite } from './site.js';

export interface Findings {
  readonly refusals: readonly PlanRefusal[];
  readonly notes: readonly string[];
  /** The point that would come up. */
  readonly point: Point | undefined;
  readonly lostSeconds: number;
  /** Of the VM that would come up; undefined: none would, or its network is refused. */
  readonly network: readonly AdapterPlan[] | undefined;
  /** The VM that is removed for its name. */
  readonly retired: Guid | undefined;
}

type Room = Pick<Findings, 'network' | 'retired'>;

interface Asking {
  readonly site: FailoverSite;
  readonly desk: VmDesk;
  readonly command: Command;
  readonly parameters: Readonly<Record<string, string>>;
  readonly values: ParameterValues;
}

/** Points that were not found damaged. @throws DrError E_NO_POINT, E_POINT_CORRUPT */
export function usablePoint({ vm }: VmDesk, name: string): Point {
  const point = findPoint({ vm }, name);
  if (point.damage === undefined) return point;
  const good = vm.protection.listed.filter(({ damage }) => damage === undefined);
  const ids = good.map(({ pointId }) => pointId).join(', ');
  throw new DrError(
    'E_POINT_CORRUPT',
    `point ${point.pointId} of ${vm.protection.vmName}: ${point.damage}`,
    {
      context: { pointId: point.pointId },
      hint: ids === '' ? 'No other point is left.' : `Points not known as bad: ${ids}`,
    },
  );
}

/** Of a command that the state machine lets begin anew. */
export async function lookBefore(asking: Asking): Promise<Findings> {
  const found = new Collector();
  const { command, site, desk, values } = asking;
  if (needsHost(command) && site.host === undefined) {
    found.refuse({
      code: 'E_STATE',
      message: 'this receiver was not told the hypervisor of its site',
    });
  }
  if (values.force && (values.reason ?? '').trim() === '') {
    found.refuse({ code: 'E_PARAMETER', message: 'what is forced wants a reason' });
  }
  let point: Point | undefined;
  let room: Room = { network: undefined, retired: undefined };
  if (command === 'planned' || command === 'unplanned' || command === 'test') {
    const name = command === 'planned' ? 'latest' : values.point;
    point = await found.ask(() => usablePoint(desk, name));
    room = await lookAtRoom(asking, found, point);
  }
  if (command === 'unplanned') await lookAtSource(asking, found);
  if (command === 'planned') await lookBeforePlanned(asking, found);
  if (command === 'failback') await lookBeforeFailback(asking, found);
  if (command === 'undo') await lookBeforeTakingBack(asking, found);
  const isGoneHome = desk.vm.protection.failover.phase === 'failed-back';
  if (command === 'undo' && isGoneHome && values.keep_disk !== undefined) {
    found.refuse({
      code: 'E_PARAMETER',
      message: 'what was written at the primary since the failback is not kept by its undo',
    });
  }
  const { tests } = desk.vm.protection;
  if (command === 'unplanned' && tests.size > 0) {
    found.notes.push(`${tests.size} test session(s) of the VM are ended first`);
  }
  const lostMs = point === undefined ? 0 : site.seams.clock.now() - point.consistentAtMs;
  return {
    refusals: found.refusals,
    notes: found.notes,
    ...{ point, ...room },
    lostSeconds: command === 'unplanned' ? Math.max(0, Math.round(lostMs / 1000)) : 0,
  };
}

/** Of a failback, whether that is done or under way. */
export async function lookBeforeTakingBack(
  { site, desk: { vm }, values }: Pick<Asking, 'site' | 'desk' | 'values'>,
  found: Collector,
): Promise<void> {
  const source = site.sources.find(vm.vmId, vm.protection.owner);
  await found.ask(() => lookBeforeUndo({ source, vm, values }));
}

function needsHost(command: Command): boolean {
  return ['planned', 'unplanned', 'test', 'undo', 'permanent', 'flatten', 'failback'].includes(
    command,
  );
}

/** Checks, network, name and room of a VM that is to come up; its network, unless that is refused. */
async function lookAtRoom(
  asking: Asking,
  found: Collector,
  point: Point | undefined,
): Promise<Room> {
  const { site, desk, command, parameters, values } = asking;
  await found.ask(() => parseChecks(values.checks.join(',')));
  if (point === undefined || site.host === undefined) {
    return { network: undefined, retired: undefined };
  }
  const { host } = site;
  const { vm } = desk;
  const purpose = command === 'test' ? 'test' : 'failover';
  const wish = { purpose, parameters } as const;
  const network = await found.ask(() => site.planNetwork(definitionOf(vm, point), wish));
  await found.ask(async () => {
    const operationId = randomGuid(site.seams.random);
    const { neededBytes, freeBytes } = await instanceSpace(site.seams, vm, point, operationId);
    if (freeBytes === undefined || freeBytes >= neededBytes) return;
    throw new DrError(
      'E_CAPACITY',
      `the disks of the point need ${neededBytes} bytes, ${freeBytes} are free in ${vm.layout.disks}`,
    );
  });
  if (purpose === 'test') return { network, retired: undefined };
  const isReplacing = command === 'planned' && values.replace_retired;
  const retired = await found.ask(() => requireNameFree(host, vm, isReplacing));
  if (retired !== undefined) found.notes.push(replacementNote(retired));
  return { network, retired: retired?.id };
}

async function lookAtSource({ site, desk, values }: Asking, found: Collector): Promise<void> {
  const { vm } = desk;
  if (values.force) {
    found.notes.push('it is forced: the source is not asked');
    return;
  }
  const source = site.sources.find(vm.vmId, vm.protection.owner);
  const state = await found.ask(() => probeSource({ source, vm }));
  if (state === undefined) {
    found.notes.push('the source does not answer');
    return;
  }
  if (!isAlive(state)) return;
  const { vmName } = vm.protection;
  if (!values.fence_source) {
    found.refuse({ code: 'E_SOURCE_ALIVE', message: `${vmName} runs at the primary site` });
  } else if (!state.allowed.includes('shutdown')) {
    found.refuse({
      code: 'E_REMOTE_ACTION',
      message: `the primary site does not let ${vmName} be shut down from here`,
    });
  }
}

async function lookBeforePlanned({ site, desk, values }: Asking, found: Collector): Promise<void> {
  const { vm } = desk;
  const { protection } = vm;
  const { vmName, tests } = protection;
  if (tests.size > 0 && !values.stop_tests) {
    found.refuse({
      code: 'E_LOCKED',
      message: `${tests.size} test session(s) of ${vmName} run; stop_tests=yes ends them`,
    });
  }
  if (protection.isPaused) {
    found.refuse({ code: 'E_STATE', message: `${vmName} is paused: no last delta would be taken` });
  }
  const state = await describeAttached(site, desk, found);
  if (state !== undefined && isAlive(state) && !state.allowed.includes('shutdown')) {
    found.refuse({
      code: 'E_REMOTE_ACTION',
      message: `the primary site does not let ${vmName} be shut down from here`,
    });
  }
}
