// What a reprotect finds before it begins: the retired protection, the VM that stays, the former primary's
// side, and all that hinders it. Nothing is changed here.

import { type Guid, guidFromWire, guidToWire } from '../bytes/index.js';
import type { ReprotectFacts } from '../channel/index.js';
import { DrError, isErrorCode } from '../errors.js';
import type { JsonObject } from '../json.js';
import { formatNetworkMap, parseNetworkMap } from '../network/index.js';
import type { OperatorAccess } from './receiver-access.js';

type Control = OperatorAccess['control'];

export interface ReprotectWish {
  /** Name or id in the protection that was made permanent. */
  readonly vm: string;
  readonly seedFrom: 'host' | 'network';
  /** Whose the new protection is; undefined: whose the key for the former primary is. */
  readonly principal: string | undefined;
  /** For the way home; undefined: that of the failover, turned round. */
  readonly networkMap: string | undefined;
  /** Seconds, as text; undefined: the default of the receiver. */
  readonly safetyHold: string | undefined;
  /** The former primary's receiver, for people. */
  readonly formerHost: string;
}

/** What a reprotect looks at. */
export interface ReprotectSites {
  /** At the receiver of this site, which has the retired protection. */
  atRetired<T>(use: 'read' | 'write', work: (control: Control) => Promise<T>): Promise<T>;
  /** At the receiver of the former primary: always one that runs. */
  atFormer<T>(work: (control: Control) => Promise<T>): Promise<T>;
  /** What the hypervisor of this site calls the VM. @throws DrError E_NO_MATCH */
  nameHere(vmId: Guid): Promise<string>;
  /** Whose the key for the former primary is. */
  principalOfKey(): Promise<string>;
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

/** @throws DrError of reaching either receiver; of the retired protection's state; E_NO_MATCH */
export async function prepareReprotect(
  wish: ReprotectWish,
  sites: ReprotectSites,
): Promise<Preparation> {
  const { vm, seedFrom } = wish;
  const facts = await sites.atRetired('read', (control) => factsOf(control, vm));
  const vmId = required(guidFromWire(facts.instanceVmId));
  const formerVmId = required(guidFromWire(facts.vmId));
  const vmName = await sites.nameHere(vmId);
  const owner = wish.principal ?? (await sites.principalOfKey());
  const isNoted = facts.reprotectedAtMs > 0n;
  const refusals: DrError[] = [];
  const networkMap = collect(refusals, () => wayBack(facts, wish)) ?? '';
  const notes: string[] = [];
  let hasPoint = false;
  await sites.atFormer(async (control) => {
    hasPoint = await hasPointOf(control, vmId);
    const found = await lookAtFormer(control, { vmId, vmName, formerVmId, owner });
    const isMissing = found instanceof DrError && found.code === 'E_NO_MATCH';
    if (isMissing && (hasPoint || seedFrom === 'network')) {
      notes.push('the former VM is not there any more');
    } else if (found instanceof DrError) {
      refusals.push(found);
    }
  });
  const steps = stepsOf(wish, { hasPoint, isNoted });
  return {
    ...{ vmName, vmId, formerVmId, owner, networkMap },
    ...{ hasPoint, isNoted, steps, notes, refusals },
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

/** @throws DrError E_PARAMETER, E_NET_UNMAPPED */
function wayBack(facts: ReprotectFacts, { networkMap }: ReprotectWish): string {
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
  { seedFrom, formerHost }: ReprotectWish,
  { hasPoint, isNoted }: Pick<Preparation, 'hasPoint' | 'isNoted'>,
): readonly ReprotectStep[] {
  if (hasPoint && isNoted) return [];
  const stage: ReprotectStep = {
    name: 'R1',
    what: `stage the disks that the VM left at ${formerHost}; they are not changed`,
  };
  return [
    ...(hasPoint || seedFrom === 'network' ? [] : [stage]),
    { name: 'R2', what: 'compare by hashes, and send what differs' },
    { name: 'R3', what: 'read the point back at the former primary' },
    { name: 'R4', what: 'give the new protection to its owner' },
    { name: 'R5', what: 'note at this site that the retired protection has its successor' },
  ];
}

export function reprotectDocument(prepared: Preparation): JsonObject {
  const { vmName, vmId, formerVmId, owner, networkMap, steps, notes, refusals } = prepared;
  return {
    ...{ command: 'reprotect', vm: vmName, vmId, formerVmId, owner, networkMap },
    steps: steps.map(({ name, what }) => ({ name, what })),
    refusals: refusals.map(({ code, message }) => ({ code, message })),
    notes,
  };
}

export function reprotectText({ vmName, owner, steps, notes, refusals }: Preparation): string {
  return [
    `reprotect ${vmName}, for ${owner}`,
    ...steps.map(({ name, what }) => `  ${name}  ${what}`),
    ...notes.map((note) => `  note: ${note}`),
    ...refusals.map(({ code, message }) => `  refused: ${code}: ${message}`),
  ].join('\n');
}
