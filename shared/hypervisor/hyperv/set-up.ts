// What a new VM has of its source beside its disks and adapters (hyperv.md § 3.2, § 3.3). A guest starts without some
// of it: what this host refuses of that is said in the notes of the VM, and does not keep it from coming up.

import type { Guid } from '../../bytes/index.js';
import { DrError } from '../../errors.js';
import type { FirmwareIds, HyperVSettings, VmDefinition } from '../vm.js';
import type { HyperVContext } from './context.js';
import { endOfMethod } from './jobs.js';
import { enableTpm, setFirmwareIds, setServices } from './operations/hardware.js';
import { getHost } from './operations/host.js';
import { setMemory, setSecureBoot } from './operations/machines.js';

const SET_UP_MS = 60_000;

const NEW_TPM =
  'Its virtual TPM is new and empty: the key protector and the keys of its source stay there. ' +
  'A disk that was sealed by them (BitLocker) asks for its recovery key once.';
const NO_TPM =
  'It has no virtual TPM, as its source has. A disk that was sealed by that one (BitLocker) asks for its recovery key. ' +
  'A new TPM, while it is off: Set-VMKeyProtector -NewLocalKeyProtector, then Enable-VMTPM.';
const NEW_IDS =
  'It does not have the serial numbers of its source; a licence may ask for activation.';

/** What the source did not tell stays as the host makes it. Returns remarks, for the notes of the VM. */
export async function setUp(
  context: HyperVContext,
  vmId: Guid,
  { generation, memoryBytes, hyperV }: VmDefinition,
): Promise<readonly string[]> {
  if (hyperV === undefined) return [];
  const { firmwareIds, hasTpm } = hyperV;
  const remarks: (string | undefined)[] = [];
  await giveServices(context, vmId, hyperV);
  await giveMemory(context, vmId, memoryBytes, hyperV);
  if (generation === 2) await giveSecureBoot(context, vmId, hyperV);
  if (firmwareIds !== undefined) {
    const refused = await refusalOf(() => giveFirmwareIds(context, vmId, firmwareIds));
    if (refused !== undefined) remarks.push(`${NEW_IDS} (${refused})`);
  }
  if (hasTpm && generation === 2) {
    const refused = await refusalOf(() => context.runner.run(enableTpm, { vmId }));
    remarks.push(refused === undefined ? NEW_TPM : `${NO_TPM} (${refused})`);
  }
  return remarks.filter((remark) => remark !== undefined);
}

async function giveServices(
  { runner }: HyperVContext,
  vmId: Guid,
  { integrationServices }: HyperVSettings,
): Promise<void> {
  if (integrationServices.length === 0) return;
  const withState = (wanted: boolean): readonly string[] =>
    integrationServices.filter(({ isEnabled }) => isEnabled === wanted).map(({ id }) => id);
  const wish = { enabledIds: withState(true), disabledIds: withState(false) };
  await runner.run(setServices, { vmId, ...wish });
}

async function giveMemory(
  { runner }: HyperVContext,
  vmId: Guid,
  memoryBytes: number,
  { dynamicMemory }: HyperVSettings,
): Promise<void> {
  if (dynamicMemory === undefined) return;
  const { minimumBytes, maximumBytes } = dynamicMemory;
  await runner.run(setMemory, {
    vmId,
    isDynamic: true,
    startupBytes: String(memoryBytes),
    minimumBytes: String(Math.min(minimumBytes, memoryBytes)),
    maximumBytes: String(Math.max(maximumBytes, memoryBytes)),
  });
}

async function giveSecureBoot(
  { runner }: HyperVContext,
  vmId: Guid,
  { isSecureBoot: isOn, secureBootTemplate }: HyperVSettings,
): Promise<void> {
  const { secureBootTemplates } = await runner.run(getHost, {});
  // one that this host does not know would be refused: then its own default, which most guests start with
  const isKnown = secureBootTemplates.some(({ id }) => id === secureBootTemplate);
  const templateId = isOn && isKnown ? (secureBootTemplate ?? null) : null;
  await runner.run(setSecureBoot, { vmId, isOn, templateId });
}

async function giveFirmwareIds(
  context: HyperVContext,
  vmId: Guid,
  ids: FirmwareIds,
): Promise<void> {
  const answer = await context.runner.run(setFirmwareIds, {
    vmId,
    ...ids,
    biosGuid: ids.biosGuid ?? null,
  });
  const what = 'to give the new VM the serial numbers of its source';
  await endOfMethod(answer, { ...context, what, timeoutMs: SET_UP_MS });
}

/** In one line; undefined when it was done. */
async function refusalOf(action: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return error.message.replaceAll(/\s+/g, ' ');
  }
}
