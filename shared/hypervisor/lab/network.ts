// Virtual switches: names that adapters are connected to. They carry no packets.

import { DrError } from '../../errors.js';
import { readJson, writeJsonDurably, type JsonFormat } from '../../files/index.js';
import type { SwitchInfo } from '../target.js';
import { withLockFile, type LabContext } from './context.js';
import { Fields } from '../fields.js';
import { hostLockFile, switchesFile } from './layout.js';
import { allVms } from './vms.js';

const FORMAT: JsonFormat = { name: 'list of lab switches', version: 1, limitBytes: 1024 * 1024 };

export async function readSwitches({ fs, folder }: LabContext): Promise<SwitchInfo[]> {
  const file = switchesFile(folder);
  const json = await readJson(fs, file, FORMAT);
  if (json === undefined) return [];
  return Fields.ofFile(json, file).list('switches', (item) => ({
    name: item.string('name'),
    isPrivate: item.boolean('isPrivate'),
  }));
}

async function changeSwitches(
  context: LabContext,
  change: (switches: readonly SwitchInfo[]) => Promise<readonly SwitchInfo[]>,
): Promise<void> {
  await withLockFile(context, hostLockFile(context.folder), async () => {
    const { fs, folder, random } = context;
    const before = await readSwitches(context);
    const switches = await change(before);
    if (switches === before) return;
    await writeJsonDurably(fs, switchesFile(folder), FORMAT, { switches }, random);
  });
}

/** Makes those that are not there. Durable on return. */
export async function addSwitches(context: LabContext, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await changeSwitches(context, (switches) => {
    const known = new Set(switches.map(({ name }) => name));
    const added = [...new Set(names)].filter((name) => !known.has(name));
    if (added.length === 0) return Promise.resolve(switches);
    return Promise.resolve([...switches, ...added.map((name) => ({ name, isPrivate: false }))]);
  });
}

/** @throws DrError E_EXISTS */
export async function addSwitch(context: LabContext, added: SwitchInfo): Promise<void> {
  if (added.name.trim() === '') throw new DrError('E_PARAMETER', 'a switch needs a name');
  await changeSwitches(context, (switches) => {
    if (switches.some(({ name }) => name === added.name)) {
      throw new DrError('E_EXISTS', `the lab has a switch ${added.name} already`);
    }
    return Promise.resolve([...switches, added]);
  });
}

/** @throws DrError E_NOT_FOUND, E_HYPERVISOR when an adapter is connected to it */
export async function removeSwitch(context: LabContext, name: string): Promise<void> {
  await changeSwitches(context, async (switches) => {
    requireSwitch(switches, name);
    const user = (await allVms(context)).find((vm) =>
      vm.adapters.some(({ switchName }) => switchName === name),
    );
    if (user !== undefined) {
      throw new DrError('E_HYPERVISOR', `the VM ${user.name} is connected to the switch ${name}`, {
        context: { vmId: user.id },
        hint: 'Disconnect or remove the VM first.',
      });
    }
    return switches.filter((other) => other.name !== name);
  });
}

/** @throws DrError E_NOT_FOUND */
export function requireSwitch(switches: readonly SwitchInfo[], name: string): void {
  if (switches.some((other) => other.name === name)) return;
  const names = switches.map((other) => other.name).join(', ');
  throw new DrError('E_NOT_FOUND', `the lab has no switch ${name}`, {
    hint: names === '' ? 'It has none at all.' : `Its switches: ${names}.`,
  });
}
