// The sites of a reprotect as the flags of the command name them.

import path from 'node:path';
import { type Guid } from '../shared/bytes/index.js';
import { loadKey } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { ReprotectSites, ReprotectWish } from '../shared/operator/reprotect-plan.js';
import type { CliContext } from './context.js';
import { type AccessFlags, withAccess } from './receiver-connection.js';
import { openSiteHost } from './site-host.js';

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

/** @throws DrError E_USAGE */
export function wishOf(vm: string, flags: ReprotectFlags): ReprotectWish {
  const { seedFrom, principal, networkMap, safetyHold, drHost = '' } = flags;
  if (seedFrom !== 'host' && seedFrom !== 'network') {
    throw new DrError('E_USAGE', `--seed-from ${seedFrom} is neither host nor network`);
  }
  return { vm, seedFrom, principal, networkMap, safetyHold, formerHost: drHost };
}

export function sitesOf(context: CliContext, flags: ReprotectFlags): ReprotectSites {
  return {
    atRetired: (use, work) =>
      withAccess(context, retiredAccess(flags), use, ({ control }) => work(control)),
    atFormer: (work) =>
      withAccess(context, formerAccess(flags), 'write', ({ control }) => work(control)),
    nameHere: (vmId) => nameHere(context, flags, vmId),
    principalOfKey: () => principalOf(context, flags),
  };
}

/** The receiver of the former primary: always one that runs. */
function formerAccess(flags: ReprotectFlags): AccessFlags {
  return { ...flags, store: undefined };
}

/** The retired protection: at the receiver of this site, or in its store. @throws DrError E_USAGE */
function retiredAccess(flags: ReprotectFlags): AccessFlags {
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
