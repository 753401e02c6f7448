// What a reprotect finds before it begins: the retired protection, the VM that stays, the former primary's
// side, and all that hinders it. Nothing is changed here.

import path from 'node:path';
import { type Guid, guidFromWire, guidToWire } from '../shared/bytes/index.js';
import { loadKey, type ReprotectFacts } from '../shared/channel/index.js';
import { DrError, isErrorCode } from '../shared/errors.js';
import { formatNetworkMap, parseNetworkMap } from '../shared/network/index.js';
import type { CliContext } from './context.js';
import { type AccessFlags, type ReceiverAccess, withAccess } from './receiver-connection.js';
import { openSiteHost } from './site-host.js';

type Control = ReceiverAccess['control'];

export interface ReprotectFlags extends AccessFlags {
  readonly host: string;
  readonly stateDir?: string;
  readonly principal?: string;
  readonly seedFrom: string;
  readonly networkMap?: string;
  readonly safetyHold?: string;
  readonly retiredHost?: string;
  readonly retiredPort?: string;
  readonly retiredPskFile?: string;
  readonly plan?: true;
}

export interface ReprotectStep {
  readonly name: 'R1' | 'R2' | 'R3' | 'R4' | 'R5';
  readonly what: string;
}

export interface Preparation {
  /** The VM that stays at this site: it is what is protected. */
  readonly vmName: string;
  readonly vmId: Guid;
  /** The VM that it was at the former primary, which is what the retired protection is of. */
  readonly formerVmId: Guid;
  readonly owner: string;
  /** For the way home; empty: no adapter is connected. */
  readonly networkMap: string;
  /** Whether the former primary has a point of it already. */
  readonly hasPoint: boolean;
  /** An earlier command came to its end. */
  readonly isNoted: boolean;
  readonly steps: readonly ReprotectStep[];
  readonly notes: readonly string[];
  /** The first one is what the command would end with. */
  readonly refusals: readonly DrError[];
}

/** @throws DrError of reaching either receiver; of the retired protection's state; E_NO_MATCH, E_USAGE */
export async function prepare(
  context: CliContext,
  vm: string,
  flags: ReprotectFlags,
): Promise<Preparation> {
  if (flags.seedFrom !== 'host' && flags.seedFrom !== 'network') {
    throw new DrError('E_USAGE', `--seed-from ${flags.seedFrom} is neither host nor network`);
  }
  const facts = await withAccess(context, retiredAccess(flags), 'read', ({ control }) =>
    factsOf(control, vm),
  );
  const vmId = required(guidFromWire(facts.instanceVmId));
  const formerVmId = required(guidFromWire(facts.vmId));
  const vmName = await nameHere(context, flags, vmId);
  const owner = flags.principal ?? (await principalOf(context, flags));
  const isNoted = facts.reprotectedAtMs > 0n;
  const refusals: DrError[] = [];
  const networkMap = collect(refusals, () => wayBack(facts, flags)) ?? '';
  const notes: string[] = [];
  let hasPoint = false;
  await withAccess(context, formerAccess(flags), 'write', async ({ control }) => {
    hasPoint = await hasPointOf(control, vmId);
    const found = await lookAtFormer(control, { vmId, vmName, formerVmId, owner });
    const isMissing = found instanceof DrError && found.code === 'E_NO_MATCH';
    if (isMissing && (hasPoint || flags.seedFrom === 'network')) {
      notes.push('the former VM is not there any more');
    } else if (found instanceof DrError) {
      refusals.push(found);
    }
  });
  const steps = stepsOf(flags, { hasPoint, isNoted });
  return {
    ...{ vmName, vmId, formerVmId, owner, networkMap },
    ...{ hasPoint, isNoted, steps, notes, refusals },
  };
}

/** The receiver of the former primary: always one that runs. */
export function formerAccess(flags: ReprotectFlags): AccessFlags {
  return { ...flags, store: undefined };
}

/** The retired protection: at the receiver of this site, or in its store. @throws DrError E_USAGE */
export function retiredAccess(flags: ReprotectFlags): AccessFlags {
  const { store, host, retiredHost, retiredPort, retiredPskFile } = flags;
  if (store !== undefined && retiredHost !== undefined) {
    throw new DrError('E_USAGE', 'either --store or --retired-host says where the protection is');
  }
  if (store !== undefined) return { store, siteHost: host };
  if (retiredHost === undefined || retiredPskFile === undefined) {
    throw new DrError('E_USAGE', 'the command is not told where the retired protection is', {
      hint: 'Give --retired-host HOST --retired-psk-file FILE, or --store DIR when no receiver runs on it.',
    });
  }
  return {
    drHost: retiredHost,
    pskFile: retiredPskFile,
    ...(retiredPort === undefined ? {} : { drPort: retiredPort }),
  };
}

/** @throws DrError with the code of the first refusal: E_UNCOMMITTED, E_NOT_FAILED_OVER, … */
async function factsOf(control: Control, vm: string): Promise<ReprotectFacts> {
  const ask = { vm, command: 'reprotect', parameters: {}, isPlan: true, confirmedHash: '' };
  let facts: ReprotectFacts | undefined;
  for await (const { step } of control.operate(ask)) {
    if (step?.$case === 'reprotect') facts = step.value;
    if (step?.$case !== 'plan') continue;
    const [refused] = step.value.refusals;
    if (refused === undefined) continue;
    const { code, message } = refused;
    throw new DrError(isErrorCode(code) ? code : 'E_STATE', message);
  }
  return required(facts);
}

function required<T>(value: T | undefined): T {
  if (value !== undefined) return value;
  throw new DrError('E_PROTOCOL', 'the receiver did not say what a reprotect has to know');
}

async function nameHere(
  context: CliContext,
  { host }: ReprotectFlags,
  vmId: Guid,
): Promise<string> {
  const hypervisor = await openSiteHost(host, context);
  try {
    const vm = (await hypervisor.listVms()).find(({ id }) => id === vmId);
    if (vm !== undefined) return vm.name;
    throw new DrError(
      'E_NO_MATCH',
      `${hypervisor.name} has no VM ${vmId}, which stays at this site`,
      {
        context: { vmId },
        hint: 'Give the hypervisor of the DR site: --host.',
      },
    );
  } finally {
    await hypervisor.close();
  }
}

async function principalOf(context: CliContext, { pskFile }: ReprotectFlags): Promise<string> {
  const { files: fs, environment, folder } = context;
  if (pskFile === undefined) {
    throw new DrError('E_USAGE', 'the command is not told which key to use', {
      hint: 'Give --psk-file FILE: an operator key of the former primary.',
    });
  }
  await context.keepSecrets();
  const reference = /^(env|file):/.test(pskFile) ? pskFile : path.resolve(folder, pskFile);
  const { principal } = await loadKey(reference, { fs, environment, log: await context.log() });
  return principal;
}

/** @throws DrError E_PARAMETER, E_NET_UNMAPPED */
function wayBack(facts: ReprotectFacts, { networkMap }: ReprotectFlags): string {
  if (networkMap !== undefined) return formatNetworkMap(parseNetworkMap(networkMap));
  if (facts.networkRefusal === '') return facts.networkMap;
  throw new DrError('E_NET_UNMAPPED', facts.networkRefusal, {
    done: 'nothing was changed',
    hint: 'Name the map of the way back, from the switches here to those there: --network-map.',
  });
}

function collect<T>(refusals: DrError[], look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    refusals.push(error);
    return undefined;
  }
}

async function hasPointOf(control: Control, vmId: Guid): Promise<boolean> {
  try {
    return (await control.listPoints({ vm: vmId })).points.length > 0;
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_PROTECTED') return false;
    throw error;
  }
}

/** Why its disks are no seed; a VM that has points already needs none. */
async function lookAtFormer(
  control: Control,
  {
    vmId,
    vmName,
    formerVmId,
    owner,
  }: Pick<Preparation, 'vmId' | 'vmName' | 'formerVmId' | 'owner'>,
): Promise<DrError | undefined> {
  const request = hostSeed({ vmId, vmName, formerVmId, owner }, true);
  try {
    for await (const { step } of control.seed(request)) {
      if (step?.$case === 'done') return undefined;
    }
    throw new DrError('E_PROTOCOL', 'the receiver did not say whether the seed can be staged');
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return error.code === 'E_EXISTS' ? undefined : error;
  }
}

export function hostSeed(
  {
    vmId,
    vmName,
    formerVmId,
    owner,
  }: Pick<Preparation, 'vmId' | 'vmName' | 'formerVmId' | 'owner'>,
  isPlan: boolean,
): Parameters<Control['seed']>[0] {
  return {
    ...{ vm: vmName, vmId: guidToWire(vmId), principal: owner, isRestart: false },
    from: { $case: 'host', value: { vm: formerVmId, diskIds: [], isPlan } },
  };
}

function stepsOf(
  { seedFrom, drHost = '' }: ReprotectFlags,
  { hasPoint, isNoted }: Pick<Preparation, 'hasPoint' | 'isNoted'>,
): readonly ReprotectStep[] {
  if (hasPoint && isNoted) return [];
  const stage: ReprotectStep = {
    name: 'R1',
    what: `stage the disks that the VM left at ${drHost}; they are not changed`,
  };
  return [
    ...(hasPoint || seedFrom === 'network' ? [] : [stage]),
    { name: 'R2', what: 'compare by hashes, and send what differs' },
    { name: 'R3', what: 'read the point back at the former primary' },
    { name: 'R4', what: 'give the new protection to its owner' },
    { name: 'R5', what: 'note at this site that the retired protection has its successor' },
  ];
}
